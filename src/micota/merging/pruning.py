"""Which elements of a task vector a method keeps, and by how much it rescales them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from micota.graph import MergeSpec
from micota.merging.masks import keep_mask, uniforms
from micota.merging.plan import Share
from micota.merging.selection import Selection
from micota.merging.slices import Read, slices

TINY = 1e-7  # below this norm nothing is rescaled
KINDS = {
    "task_arithmetic": None,
    "dare_linear": "random",
    "dare_ties": "random",
    "ties": "magnitude",
    "breadcrumbs": "outliers",
    "della": "ranks",
}


@dataclass(frozen=True)
class TaskVector:
    """What the ``model``-th fine-tuned model added to one tensor. ``read`` gives slices, each in memory of its own."""

    tensor: str
    model: int
    shape: tuple[int, ...]
    read: Read
    share: Share


# Of a slice of the task vector, its start and stop: float32, 1 where an element is kept and 0 where not; and that
# divided by each element's own probability, if it has one and is to be rescaled by it.
Mask = Callable[[torch.Tensor, int, int], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Pruning:
    """The pruning of one task vector; ``scale`` multiplies what is kept."""

    mask: Mask
    scale: float

    def apply_(self, delta: torch.Tensor, start: int, stop: int) -> int:
        """Prune and rescale a slice in place; returns how many elements were dropped."""
        kept, factors = self.mask(delta, start, stop)
        delta.mul_(factors)
        if self.scale != 1:
            delta.mul_(self.scale)
        # Sums of ones are exact in float32 up to 2**24, and much faster than counting.
        return delta.numel() - int(kept.sum(dtype=torch.float64 if kept.numel() > 2**24 else None))


Pruner = Callable[[MergeSpec, TaskVector], Pruning | None]


def pruning_of(spec: MergeSpec, vector: TaskVector) -> Pruning | None:
    """How the method prunes; None where it keeps everything."""
    if KINDS[spec.method] is None or vector.share.density == 1:
        return None
    mask = mask_of(spec, vector)
    return Pruning(mask, scale_of(spec, vector, mask))


def mask_of(spec: MergeSpec, vector: TaskVector) -> Mask:
    """The mask of a method that prunes, made slice by slice when it is asked for."""
    kind, share = KINDS[spec.method], vector.share
    if kind == "ranks":
        return _by_rank(spec, vector)
    if kind == "random":
        return alike(lambda values, start, stop: keep_mask(share.key, start, stop, share.density, values.device))
    selection = _selection(spec, vector)
    return alike(lambda values, start, stop: selection.mask(values, start))


def alike(kept: Callable[[torch.Tensor, int, int], torch.Tensor]) -> Mask:
    """A mask of elements that are all rescaled alike."""

    def mask(values: torch.Tensor, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        found = kept(values, start, stop)
        return found, found

    return mask


def scale_of(spec: MergeSpec, vector: TaskVector, mask: Mask) -> float:
    """What multiplies all that is kept.

    ``rescale=dare`` divides by the probability of being kept, which leaves the expectation as it was (arXiv
    2311.03099; where elements have probabilities of their own, the mask does it); ``norm`` multiplies by the ratio of
    L1 norms before and after, as mergekit does.
    """
    if spec.rescale == "norm":
        return _norm_ratio(vector, mask)
    return 1 / vector.share.density if spec.rescale == "dare" and KINDS[spec.method] == "random" else 1.0


def _selection(spec: MergeSpec, vector: TaskVector) -> Selection:
    """The largest magnitudes; with outliers those below the largest of all."""
    count = math.prod(vector.shape)
    kept = int(vector.share.density * count)
    top = int(spec.gamma * count) if KINDS[spec.method] == "outliers" else 0
    if KINDS[spec.method] == "magnitude":
        kept = max(1, kept)
    first = max(0, count - kept - top)
    return Selection(lambda: ((a, vector.read(a, b)) for a, b in slices(vector.shape)), first, first + kept)


def _by_rank(spec: MergeSpec, vector: TaskVector) -> Mask:
    """At random, with a probability by the rank of the magnitude in its row (equal ones by their place)."""
    columns = math.prod(vector.shape[1:]) if len(vector.shape) > 1 else math.prod(vector.shape)
    share = vector.share

    def mask(values: torch.Tensor, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        ranks = values.abs().view(-1, columns).argsort(dim=1, stable=True).argsort(dim=1, stable=True)
        steps = ranks.to(values.dtype) / max(1, columns - 1)
        probabilities = (share.density - spec.epsilon + steps * 2 * spec.epsilon).flatten()
        kept = (uniforms(share.key, start, stop, values.device) < probabilities).to(values.dtype)
        return kept, kept / probabilities if spec.rescale == "dare" else kept

    return mask


def _norm_ratio(vector: TaskVector, mask: Mask) -> float:
    before = after = 0.0
    for start, stop in slices(vector.shape):
        values = vector.read(start, stop)
        before += float(values.abs().sum(dtype=torch.float64))
        after += float((values * mask(values, start, stop)[1]).abs().sum(dtype=torch.float64))
    return before / after if before > TINY and after > TINY else 1.0
