"""Cut tensors into slices by their shape alone, so that every caller gets the same slices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

SLICE = 2**19  # elements: large enough to hide Python, small enough for the processor's cache

Read = Callable[[int, int], torch.Tensor]  # float32 elements from start to stop of the flattened tensor


def slices(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Start and stop of slices of whole rows, of about ``SLICE`` elements; they depend on the shape alone."""
    total = math.prod(shape)
    columns = math.prod(shape[1:]) if len(shape) > 1 else total
    step = max(1, SLICE // max(1, columns)) * columns
    for start in range(0, total, max(1, step)):
        yield start, min(total, start + step)
