"""Prune task vectors: masks of kept elements, and their rescaling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from micota.config import MERGE_METHODS, PRUNINGS, PruningKind
from micota.graph import MergeSpec
from micota.graph.stage import function
from micota.merging.masks import keep_mask, uniforms
from micota.merging.plan import Share
from micota.merging.selection import Selection
from micota.merging.slices import Read, slices

TINY = 1e-7  # below this norm nothing is rescaled


@dataclass(frozen=True)
class TaskVector:
    """Tuned - base of the ``model``-th fine-tuned model in one tensor. ``read`` returns slices, each a new tensor."""

    tensor: str
    model: int
    shape: tuple[int, ...]
    read: Read
    share: Share


# From a slice of the task vector, its start and its stop: a float32 mask, 1 where an element is kept and 0 where not;
# and the factors of the elements: the mask, divided by the probability of each element if the method rescales by it.
Mask = Callable[[torch.Tensor, int, int], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Pruning:
    """The pruning of one task vector; ``scale`` multiplies the kept elements."""

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
    """The pruning of a task vector by the method of ``spec``; None where it keeps every element."""
    if MERGE_METHODS[spec.method].pruning is None or vector.share.density == 1:
        return None
    # The scale takes a pass before the merge: the first slice already needs it.
    mask = mask_of(spec, vector)
    return Pruning(mask, scale_of(spec, vector, mask))


def mask_of(spec: MergeSpec, vector: TaskVector) -> Mask:
    """The mask of a method that prunes, computed slice by slice on use."""
    pruning = MERGE_METHODS[spec.method].pruning
    assert pruning is not None
    mask: Mask = function(PRUNINGS[pruning].mask)(spec, vector)
    return mask


def alike(kept: Callable[[torch.Tensor, int, int], torch.Tensor]) -> Mask:
    """A mask whose elements are all rescaled alike."""

    def mask(values: torch.Tensor, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        ones = kept(values, start, stop)
        return ones, ones

    return mask


def scale_of(spec: MergeSpec, vector: TaskVector, mask: Mask) -> float:
    """The factor of all kept elements.

    ``rescale=dare`` divides by the probability of being kept, which preserves the expectation (arXiv 2311.03099; if
    the probability differs by element, the mask divides). ``norm`` multiplies by the ratio of L1 norms before and
    after, as in mergekit.
    """
    if spec.rescale == "norm":
        return _norm_ratio(vector, mask)
    # E[m d / density] = d for a mask m of expectation density: DARE's 1 / (1 - p), where p is the dropped share.
    is_dare = spec.rescale == "dare" and MERGE_METHODS[spec.method].probability == "density"
    return 1 / vector.share.density if is_dare else 1.0


def at_random(spec: MergeSpec, vector: TaskVector) -> Mask:
    """DARE (arXiv 2311.03099): each element is kept with probability ``density``, which is 1 - p there."""
    share = vector.share
    return alike(lambda values, start, stop: keep_mask(share.key, start, stop, share.density, values.device))


def largest(spec: MergeSpec, vector: TaskVector) -> Mask:
    """TIES' trim (arXiv 2306.01708): the share ``density`` of largest magnitude, at least one element."""
    # Over the tensor, as in mergekit, not over the model as in the paper: tensors can be merged one by one.
    count = math.prod(vector.shape)
    kept = max(1, int(vector.share.density * count))
    return _ranked(vector, count - kept, kept)


def below_outliers(spec: MergeSpec, vector: TaskVector) -> Mask:
    """Model Breadcrumbs (arXiv 2312.06795): the share ``density`` of largest magnitude below the ``gamma``
    largest of all, which are outliers."""
    count = math.prod(vector.shape)
    # In mergekit's names, gamma of the largest and 1 - density - gamma of the smallest are dropped.
    kept, top = int(vector.share.density * count), int(spec.gamma * count)
    return _ranked(vector, max(0, count - kept - top), kept)


def _ranked(vector: TaskVector, first: int, count: int) -> Mask:
    """The ``count`` elements from rank ``first`` on, in ascending order of magnitude."""
    selection = Selection(lambda: ((a, vector.read(a, b)) for a, b in slices(vector.shape)), first, first + count)
    return alike(lambda values, start, stop: selection.mask(values, start))


def by_rank(spec: MergeSpec, vector: TaskVector) -> Mask:
    """DELLA's MAGPRUNE (arXiv 2406.11617): at random, with a probability of being kept that rises linearly with
    the rank of the magnitude in its row (equal magnitudes by index)."""
    columns = vector.shape[-1] if vector.shape else 1  # of experts in one tensor, too: each row of each expert
    share = vector.share

    def mask(values: torch.Tensor, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        # Sorting twice gives ranks: the second sort inverts the permutation of the first.
        ranks = values.abs().view(-1, columns).argsort(dim=1, stable=True).argsort(dim=1, stable=True)
        steps = ranks.to(values.dtype) / max(1, columns - 1)
        # The paper writes drop probabilities p_i = p_min + (epsilon / n) rank_i, falling with the magnitude, and calls
        # epsilon the whole range; here, as in mergekit, the range is 2 epsilon around the density.
        probabilities = (share.density - spec.epsilon + steps * 2 * spec.epsilon).flatten()
        kept = (uniforms(share.key, start, stop, values.device) < probabilities).to(values.dtype)
        # Dividing by the probability of each element preserves its expectation.
        return kept, kept / probabilities if spec.rescale == "dare" else kept

    return mask


def _norm_ratio(vector: TaskVector, mask: Mask) -> float:
    before = after = 0.0
    for start, stop in slices(vector.shape):
        values = vector.read(start, stop)
        # In float64: float32 sums of many millions of small numbers lose the small ones.
        before += float(values.abs().sum(dtype=torch.float64))
        after += float((values * mask(values, start, stop)[1]).abs().sum(dtype=torch.float64))
    return before / after if before > TINY and after > TINY else 1.0


def _check(kind: PruningKind) -> None:
    try:
        function(kind.mask)
    except (ImportError, AttributeError) as error:
        raise TypeError(f"pruning {kind.name!r} has mask {kind.mask!r}, which does not exist: {error}") from error


PRUNINGS.for_each(_check)
