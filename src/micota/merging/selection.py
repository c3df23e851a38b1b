"""Select elements of a tensor by the exact rank of their magnitude, in bounded memory: histograms instead of a sort."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Slices = Callable[[], Iterable[tuple[int, torch.Tensor]]]  # the start of each slice, and its float32 values
HALF = 16  # bits


@dataclass
class _Rank:
    """The magnitude (as bits) at a rank, and how many of equal magnitude come before that rank."""

    bits: int
    before: int


class Selection:
    """Elements from rank ``first`` to ``last`` (not included) in ascending order of magnitude, equal ones by index.

    Magnitudes are compared as the bits of non-negative floats, whose order is that of the floats.
    """

    def __init__(self, slices: Slices, first: int, last: int) -> None:
        self._empty = first >= last
        if self._empty:
            return
        # Count the upper 16 bits of all magnitudes, then the lower 16 in the two bins that hold the ends: three passes
        # over the slices with 2**16 counters each, for any size of the tensor.
        coarse = np.zeros(2**HALF, dtype=np.int64)
        for _, values in slices():
            coarse += np.bincount(_bits(values) >> HALF, minlength=2**HALF)
        ranks = [first, last - 1]
        ends = np.cumsum(coarse)
        bins = [int(np.searchsorted(ends, rank, side="right")) for rank in ranks]
        fine = {number: np.zeros(2**HALF, dtype=np.int64) for number in bins}
        for _, values in slices():
            bits = _bits(values)
            for number, counts in fine.items():
                inside = bits[bits >> HALF == number] & (2**HALF - 1)
                counts += np.bincount(inside, minlength=2**HALF)
        self._low, self._high = (
            _rank(number, fine[number], rank - int(ends[number] - coarse[number]))
            for rank, number in zip(ranks, bins, strict=True)
        )
        self._equal_before: dict[int, tuple[int, int]] = {}  # of each slice: how many of either magnitude precede it
        seen = [0, 0]
        for start, values in slices():
            self._equal_before[start] = (seen[0], seen[1])
            bits = _bits(values)
            seen[0] += int(np.count_nonzero(bits == self._low.bits))
            seen[1] += int(np.count_nonzero(bits == self._high.bits))

    def mask(self, values: torch.Tensor, start: int) -> torch.Tensor:
        """float32, 1 where an element of the slice from ``start`` is selected."""
        if self._empty:
            return torch.zeros_like(values)
        bits = _bits(values)
        low, high = self._equal_before[start]
        kept = (bits > self._low.bits) & (bits < self._high.bits)
        at_low = np.flatnonzero(bits == self._low.bits)
        at_high = np.flatnonzero(bits == self._high.bits)
        if self._low.bits == self._high.bits:
            # Of equal magnitudes the first rank lower, as in a stable sort, so that the count is exact.
            ranks = low + np.arange(len(at_low))
            kept[at_low[(ranks >= self._low.before) & (ranks <= self._high.before)]] = True
        else:
            kept[at_low[low + np.arange(len(at_low)) >= self._low.before]] = True
            kept[at_high[high + np.arange(len(at_high)) <= self._high.before]] = True
        return torch.from_numpy(kept).to(values)


def _bits(values: torch.Tensor) -> np.ndarray[Any, np.dtype[np.int32]]:
    # IEEE 754: of numbers with the sign bit 0, a larger number has larger bits, read as an integer.
    return values.abs().cpu().numpy().view(np.int32)


def _rank(number: int, counts: np.ndarray[Any, np.dtype[np.int64]], rank: int) -> _Rank:
    """Resolve a rank within one coarse bin."""
    ends = np.cumsum(counts)
    low = int(np.searchsorted(ends, rank, side="right"))
    return _Rank(bits=number << HALF | low, before=rank - int(ends[low] - counts[low]))
