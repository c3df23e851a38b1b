"""Merge methods as functions of slices of one tensor, in float32.

With task vectors ``d_i`` (fine-tuned - base), weights ``w_i`` and pruning ``p_i`` all but two are
``base + sum_i w_i p_i(d_i)``, over the models that agree with the elected sign where there is a consensus:

- task_arithmetic (arXiv 2212.04089): nothing is pruned
- dare_linear, dare_ties (arXiv 2311.03099): elements are kept at random, with probability ``density``
- ties (arXiv 2306.01708): the share ``density`` of largest magnitude is kept
- breadcrumbs (arXiv 2312.06795): the share ``gamma`` of largest magnitude is dropped too
- della (arXiv 2406.11617): at random, with a probability that rises with the rank of the magnitude in its row, from
  ``density - epsilon`` to ``density + epsilon``

``linear`` averages the models themselves, ``slerp`` goes from base to fine-tuned on the arc between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from micota.graph import MergeSpec
from micota.merging.masks import keep_mask, uniforms
from micota.merging.recipe import Share
from micota.merging.selection import Selection

SLICE = 2**19  # elements: large enough to hide Python, small enough for the processor's cache
TINY = 1e-7  # below this norm nothing is rescaled
NO_LENGTH = 1e-16  # the squared norm of a tensor that is taken for zero
STRAIGHT = 0.9995  # the cosine from which an arc is taken for a line

Read = Callable[[int, int], torch.Tensor]  # float32 elements from start to stop of the flattened tensor


@dataclass(frozen=True)
class Method:
    """How task vectors are pruned, and whether signs are elected."""

    pruning: str | None
    consensus: bool


METHODS = {
    "task_arithmetic": Method(None, consensus=False),
    "dare_linear": Method("random", consensus=False),
    "dare_ties": Method("random", consensus=True),
    "ties": Method("magnitude", consensus=True),
    "breadcrumbs": Method("outliers", consensus=False),
    "della": Method("ranks", consensus=True),
}


@dataclass
class Tally:
    """What a merge did to one tensor. Norms are L2; lists have one value a fine-tuned model."""

    num_elements: int
    task_vector_squares: list[float]
    dropped: list[int]
    merged_squares: float = 0.0
    conflicting: int = 0  # values dropped because their sign was not elected


@dataclass
class TensorMerge:
    """The merge of one tensor. ``shape`` is that of all models."""

    spec: MergeSpec
    shape: tuple[int, ...]
    base: Read
    tuned: Sequence[Read]
    shares: Sequence[Share]
    tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally(math.prod(self.shape), [0.0] * len(self.tuned), [0] * len(self.tuned))

    def parts(self) -> Iterator[tuple[int, torch.Tensor]]:
        """The merged tensor in slices: where each starts, and its float32 values."""
        combine = {"linear": self._linear, "slerp": self._slerp}.get(self.spec.method, self._task_vectors)()
        for start, stop in slices(self.shape):
            before = self.base(start, stop)
            yield start, combine(before, [read(start, stop) for read in self.tuned], start, stop)

    def _count(self, vectors: Sequence[torch.Tensor], merged: torch.Tensor) -> None:
        for index, vector in enumerate(vectors):
            self.tally.task_vector_squares[index] += _squares(vector)
        self.tally.merged_squares += _squares(merged)

    def _task_vectors(self) -> Combine:
        method = METHODS[self.spec.method]
        pruners = [Pruner(self.spec, self.shape, self._delta(i), share) for i, share in enumerate(self.shares)]

        def combine(before: torch.Tensor, after: list[torch.Tensor], start: int, stop: int) -> torch.Tensor:
            for index, (delta, pruner) in enumerate(zip(after, pruners, strict=True)):
                self.tally.task_vector_squares[index] += _squares(delta.sub_(before))
                self.tally.dropped[index] += pruner.prune_(delta, start, stop)
                delta.mul_(self.shares[index].weight)
            mixed = self._mixed(after, method.consensus)
            self.tally.merged_squares += _squares(mixed)
            return before + mixed

        return combine

    def _delta(self, index: int) -> Read:
        return lambda start, stop: self.tuned[index](start, stop).sub_(self.base(start, stop))

    def _mixed(self, vectors: list[torch.Tensor], consensus: bool) -> torch.Tensor:
        """The sum of weighted task vectors, or their weighted mean (``normalize``), over those of the elected sign."""
        if len(vectors) == 1 and not self.spec.normalize:
            return vectors[0]
        stacked = torch.stack(vectors)
        weights = torch.tensor([share.weight for share in self.shares], dtype=stacked.dtype, device=stacked.device)
        agree = torch.ones_like(stacked)
        if consensus:
            elected = torch.where(stacked.sum(dim=0) >= 0, 1.0, -1.0)
            agree = (stacked.sign() == elected).to(stacked.dtype)
            self.tally.conflicting += int(((agree == 0) & (stacked != 0)).sum())
        mixed = (stacked * agree).sum(dim=0)
        if not self.spec.normalize:
            return mixed
        divisor = (weights[:, None] * agree).sum(dim=0)
        return mixed / torch.where(divisor.abs() < 1e-8, 1.0, divisor)

    def _linear(self) -> Combine:
        weights = [share.weight for share in self.shares]

        def combine(before: torch.Tensor, after: list[torch.Tensor], start: int, stop: int) -> torch.Tensor:
            mean = before * (1 - sum(weights))
            for weight, values in zip(weights, after, strict=True):
                mean += values * weight
            self._count([values - before for values in after], mean - before)
            return mean

        return combine

    def _slerp(self) -> Combine:
        """Spherical interpolation (Shoemake 1985) of flattened tensors; linear where they are nearly parallel.

        A tensor without a direction (a bias of zeros) is taken to be at right angles to the other, as in mergekit.
        """
        dot, squares = 0.0, [0.0, 0.0]
        for start, stop in slices(self.shape):
            x, y = self.base(start, stop).double(), self.tuned[0](start, stop).double()
            dot += float((x * y).sum())
            squares = [squares[0] + _squares(x), squares[1] + _squares(y)]
        lengths = [math.sqrt(square) if square > NO_LENGTH else 1.0 for square in squares]
        cosine = max(-1.0, min(1.0, dot / (lengths[0] * lengths[1])))
        weight = self.shares[0].weight
        first, second = 1 - weight, weight
        if abs(cosine) <= STRAIGHT:
            angle = math.acos(cosine)
            first, second = (math.sin(part * angle) / math.sin(angle) for part in (first, second))

        def combine(before: torch.Tensor, after: list[torch.Tensor], start: int, stop: int) -> torch.Tensor:
            between = before * first + after[0] * second
            self._count([after[0] - before], between - before)
            return between

        return combine


Combine = Callable[[torch.Tensor, list[torch.Tensor], int, int], torch.Tensor]


class Pruner:
    """Prunes the task vector of one tensor and rescales what is left.

    ``rescale=dare`` divides by the probability of being kept, which leaves the expectation as it was (arXiv
    2311.03099); ``norm`` multiplies by the ratio of L1 norms before and after, as mergekit does.
    """

    def __init__(self, spec: MergeSpec, shape: tuple[int, ...], delta: Read, share: Share) -> None:
        self._spec = spec
        self._share = share
        self._pruning = METHODS[spec.method].pruning if share.density < 1 else None
        self._columns = math.prod(shape[1:]) if len(shape) > 1 else math.prod(shape)
        self._selection: Selection | None = None
        self._scale = 1.0
        if self._pruning in ("magnitude", "outliers"):
            count = math.prod(shape)
            kept = int(share.density * count)
            kept = max(1, kept) if self._pruning == "magnitude" else kept
            top = int(spec.gamma * count) if self._pruning == "outliers" else 0
            first = max(0, count - kept - top)
            self._selection = Selection(lambda: ((s, delta(s, e)) for s, e in slices(shape)), first, first + kept)
        if self._pruning == "random" and spec.rescale == "dare":
            self._scale = 1 / share.density
        if self._pruning is not None and spec.rescale == "norm":
            self._scale = self._norm_ratio(shape, delta)

    def prune_(self, delta: torch.Tensor, start: int, stop: int) -> int:
        """Prune and rescale a slice in place; returns how many elements were dropped."""
        if self._pruning is None:
            return 0
        mask, factors = self._mask(delta, start, stop)
        delta.mul_(factors)
        if self._scale != 1:
            delta.mul_(self._scale)
        # Sums of ones are exact in float32 up to 2**24, and much faster than counting.
        return delta.numel() - int(mask.sum(dtype=torch.float64 if mask.numel() > 2**24 else None))

    def _mask(self, delta: torch.Tensor, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """1 where an element is kept and 0 where not; and that divided by each element's own probability, if it has one
        and is to be rescaled by it."""
        if self._selection is not None:
            mask = self._selection.mask(delta, start)
            return mask, mask
        if self._pruning == "random":
            mask = keep_mask(self._share.key, start, stop, self._share.density, delta.device)
            return mask, mask
        probabilities = self._probabilities(delta)
        mask = (uniforms(self._share.key, start, stop, delta.device) < probabilities).to(delta.dtype)
        return mask, mask / probabilities if self._spec.rescale == "dare" else mask

    def _probabilities(self, delta: torch.Tensor) -> torch.Tensor:
        """Of each element, by the rank of its magnitude in its row (equal ones by their place)."""
        ranks = delta.abs().view(-1, self._columns).argsort(dim=1, stable=True).argsort(dim=1, stable=True)
        shares = ranks.to(delta.dtype) / max(1, self._columns - 1)
        return (self._share.density - self._spec.epsilon + shares * 2 * self._spec.epsilon).flatten()

    def _norm_ratio(self, shape: tuple[int, ...], delta: Read) -> float:
        before = after = 0.0
        for start, stop in slices(shape):
            values = delta(start, stop)
            before += float(values.abs().sum(dtype=torch.float64))
            after += float((values * self._mask(values, start, stop)[1]).abs().sum(dtype=torch.float64))
        return before / after if before > TINY and after > TINY else 1.0


def slices(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Start and stop of slices of whole rows, of about ``SLICE`` elements; the same for a shape, always."""
    total = math.prod(shape)
    columns = math.prod(shape[1:]) if len(shape) > 1 else total
    step = max(1, SLICE // max(1, columns)) * columns
    for start in range(0, total, max(1, step)):
        yield start, min(total, start + step)


def _squares(values: torch.Tensor) -> float:
    """The sum of squares; not finite if any value is not."""
    return float(torch.linalg.vector_norm(values)) ** 2
