"""Merge methods as functions of slices of one tensor, in float32.

With task vectors ``d_i`` (fine-tuned - base), weights ``w_i`` and pruning ``p_i`` (micota.merging.pruning) most are
``base + sum_i w_i p_i(d_i)`` (task arithmetic, arXiv 2212.04089), over the models that agree with the elected sign
where there is a consensus. ``linear`` averages models, ``sce`` weights task vectors by their squares, and ``slerp``
interpolates from base to fine-tuned along the arc between them. The table of methods is micota.config.merge_methods.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from micota.config import MERGE_METHODS, MergeMethod
from micota.graph import MergeSpec
from micota.graph.stage import function
from micota.merging.plan import Share
from micota.merging.pruning import Pruner, TaskVector, pruning_of
from micota.merging.selection import Selection
from micota.merging.slices import Read, slices

NO_LENGTH = 1e-16  # a squared norm up to this counts as zero
STRAIGHT = 0.9995  # above this cosine an arc counts as a line


@dataclass
class Tally:
    """Statistics of the merge of one tensor. Norms are L2; lists have one value per fine-tuned model."""

    num_elements: int
    task_vector_squares: list[float]
    dropped: list[int]
    merged_squares: float = 0.0
    conflicting: int = 0  # values dropped because their sign was not elected


@dataclass
class TensorMerge:
    """The merge of one tensor, which has one shape in all models. ``prune`` returns the pruning of a task vector."""

    spec: MergeSpec
    name: str
    shape: tuple[int, ...]
    base: Read
    tuned: Sequence[Read]
    shares: Sequence[Share]
    prune: Pruner = pruning_of
    tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally(math.prod(self.shape), [0.0] * len(self.tuned), [0] * len(self.tuned))

    def parts(self) -> Iterator[tuple[int, torch.Tensor]]:
        """The merged tensor in slices: the start of each, and its float32 values."""
        combine: Combine = function(MERGE_METHODS[self.spec.method].combine)(self)
        for start, stop in slices(self.shape):
            before = self.base(start, stop)
            yield start, combine(before, [read(start, stop) for read in self.tuned], start, stop)

    def count(self, vectors: Sequence[torch.Tensor], merged: torch.Tensor) -> None:
        """Add the norms of a slice of the task vectors, and of merged - base, to the tally."""
        for index, vector in enumerate(vectors):
            self.tally.task_vector_squares[index] += _squares(vector)
        self.tally.merged_squares += _squares(merged)

    def delta(self, index: int) -> Read:
        """Slices of the task vector of one fine-tuned model."""
        return lambda start, stop: self.tuned[index](start, stop).sub_(self.base(start, stop))

    def mixed(self, vectors: list[torch.Tensor]) -> torch.Tensor:
        """The sum of weighted task vectors, or their weighted mean (``normalize``), over those of the elected sign."""
        # One vector elects its signs and is the sum: DARE-TIES is DARE (arXiv 2311.03099).
        if len(vectors) == 1 and not self.spec.normalize:
            return vectors[0] if self.spec.scale == 1 else vectors[0].mul_(self.spec.scale)
        return self._sum(vectors) * self.spec.scale

    def _sum(self, vectors: list[torch.Tensor]) -> torch.Tensor:
        stacked = torch.stack(vectors)
        weights = torch.tensor([share.weight for share in self.shares], dtype=stacked.dtype, device=stacked.device)
        agree = torch.ones_like(stacked)
        if MERGE_METHODS[self.spec.method].elects_signs:
            agree = self.agreeing(stacked)  # with their weights, as in mergekit
        mixed = (stacked * agree).sum(dim=0)
        if not self.spec.normalize:
            return mixed
        # TIES' disjoint mean: only over models that agree, so that dropped or outvoted values do not shrink it.
        divisor = (weights[:, None] * agree).sum(dim=0)
        # Where no model agrees the sum is 0, and dividing by 1 keeps it.
        return mixed / torch.where(divisor.abs() < 1e-8, 1.0, divisor)

    def agreeing(self, vectors: torch.Tensor) -> torch.Tensor:
        """1 where an element has the elected sign, else 0, for vectors (models, elements); counts the conflicts."""
        # TIES (arXiv 2306.01708) elects sgn(sum_i t_i), the sign of more total magnitude. A sum of zero, which has no
        # sign, counts as positive.
        elected = torch.where(vectors.sum(dim=0) >= 0, 1.0, -1.0)
        agree = (vectors.sign() == elected).to(vectors.dtype)
        self.tally.conflicting += int(((agree == 0) & (vectors != 0)).sum())
        return agree


Combine = Callable[[torch.Tensor, list[torch.Tensor], int, int], torch.Tensor]


def task_vectors(merge: TensorMerge) -> Combine:
    """``base + sum_i w_i p_i(d_i)``: task arithmetic (arXiv 2212.04089) of pruned task vectors."""
    vectors = [
        TaskVector(merge.name, index, merge.shape, merge.delta(index), share)
        for index, share in enumerate(merge.shares)
    ]
    prunings = [merge.prune(merge.spec, vector) for vector in vectors]

    def combine(before: torch.Tensor, after: list[torch.Tensor], start: int, stop: int) -> torch.Tensor:
        for index, (delta, pruning) in enumerate(zip(after, prunings, strict=True)):
            # In place: a slice fills the processor's cache, and a copy would not fit.
            merge.tally.task_vector_squares[index] += _squares(delta.sub_(before))
            if pruning is not None:
                merge.tally.dropped[index] += pruning.apply_(delta, start, stop)
            # After the pruning: the kept and rescaled elements estimate the task vector, which the weight scales.
            delta.mul_(merge.shares[index].weight)
        mixed = merge.mixed(after)
        merge.tally.merged_squares += _squares(mixed)
        return before + mixed

    return combine


def linear(merge: TensorMerge) -> Combine:
    """``(1 - sum_i w_i) base + sum_i w_i tuned_i``: a weighted model soup (arXiv 2203.05482)."""
    weights = [share.weight for share in merge.shares]

    def combine(before: torch.Tensor, after: list[torch.Tensor], start: int, stop: int) -> torch.Tensor:
        # A model soup (arXiv 2203.05482); the base has the weight 1 - sum_i w_i.
        mean = before * (1 - sum(weights))
        for weight, values in zip(weights, after, strict=True):
            mean += values * weight
        merge.count([values - before for values in after], mean - before)
        return mean

    return combine


def sce(merge: TensorMerge) -> Combine:
    """SCE (arXiv 2408.07990): select elements by their variance over models, calculate a weight of each model by the
    squares of what is selected, and erase elements of the sign that is not elected."""
    density = merge.shares[0].density

    def vectors(start: int, stop: int) -> torch.Tensor:
        return torch.stack([merge.delta(index)(start, stop) for index in range(len(merge.tuned))])

    def variances() -> Iterator[tuple[int, torch.Tensor]]:
        for start, stop in slices(merge.shape):
            yield start, vectors(start, stop).var(dim=0, unbiased=False)

    # The share counts only elements that vary at all, as in mergekit.
    varying = sum(int(values.count_nonzero()) for _, values in variances()) if density < 1 else 0
    count = math.prod(merge.shape)
    selection = Selection(variances, count - int(varying * density), count) if density < 1 else None

    def selected(deltas: torch.Tensor, start: int) -> torch.Tensor:
        return deltas if selection is None else deltas * selection.mask(deltas.var(dim=0, unbiased=False), start)

    squares = torch.zeros(len(merge.tuned), dtype=torch.float64)
    for start, stop in slices(merge.shape):
        squares += selected(vectors(start, stop), start).double().square().sum(dim=1).cpu()
    # Equation 3: the weight of a model is its share of the squares; without any, all models are alike.
    weights = squares / squares.sum() if squares.sum() > 0 else torch.full_like(squares, 1 / len(squares))

    def combine(before: torch.Tensor, after: list[torch.Tensor], start: int, stop: int) -> torch.Tensor:
        deltas = torch.stack([values - before for values in after])
        kept = selected(deltas, start)
        shares = weights.to(kept)[:, None] * merge.agreeing(kept)
        divisor = shares.sum(dim=0)
        mixed = (kept * shares).sum(dim=0) / torch.where(divisor > 0, divisor, 1.0)
        for index, (delta, part) in enumerate(zip(deltas, kept, strict=True)):
            merge.tally.dropped[index] += int(((part == 0) & (delta != 0)).sum())
        merge.count(list(deltas), mixed)
        return before + mixed

    return combine


def slerp(merge: TensorMerge) -> Combine:
    """Spherical interpolation (Shoemake 1985) of flattened tensors; linear where they are nearly parallel.

    A tensor without a direction (a bias of zeros) counts as orthogonal to the other, as in mergekit.
    """
    dot, squares = 0.0, [0.0, 0.0]
    for start, stop in slices(merge.shape):
        # In float64: an arc cosine near 1 loses half of the digits of its argument.
        x, y = merge.base(start, stop).double(), merge.tuned[0](start, stop).double()
        dot += float((x * y).sum())
        squares = [squares[0] + _squares(x), squares[1] + _squares(y)]
    lengths = [math.sqrt(square) if square > NO_LENGTH else 1.0 for square in squares]
    # Rounding may exceed the range of a cosine.
    cosine = max(-1.0, min(1.0, dot / (lengths[0] * lengths[1])))
    weight = merge.shares[0].weight
    first, second = 1 - weight, weight
    if abs(cosine) <= STRAIGHT:
        # sin((1 - t) a) / sin(a) and sin(t a) / sin(a) (Shoemake 1985); near a = 0 both go to 1 - t and t.
        angle = math.acos(cosine)
        first, second = (math.sin(part * angle) / math.sin(angle) for part in (first, second))

    def combine(before: torch.Tensor, after: list[torch.Tensor], start: int, stop: int) -> torch.Tensor:
        between = before * first + after[0] * second
        merge.count([after[0] - before], between - before)
        return between

    return combine


def _squares(values: torch.Tensor) -> float:
    """The sum of squares; not finite if any value is not."""
    return float(torch.linalg.vector_norm(values)) ** 2


def _check(method: MergeMethod) -> None:
    try:
        function(method.combine)
    except (ImportError, AttributeError) as error:
        raise TypeError(f"merge method {method.name!r} has combine {method.combine!r}, which does not exist") from error


MERGE_METHODS.for_each(_check)
