"""Many merges of the same models, with masks that are computed once.

Masks are nested if every higher density keeps all elements that a density keeps (random numbers below it, or the
largest magnitudes). Then one byte per element holds the masks of all densities: the number of densities that drop the
element. The first merge of a seed writes the bytes to a file. Every later merge of that seed, at any density and
weight, reads them instead of sampling or sorting again. The result equals a single merge to the bit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch

from micota.checkpoint import Checkpoint
from micota.config import MERGE_METHODS
from micota.errors import ConfigError
from micota.graph import MergeSpec
from micota.merging.masks import drop_counts
from micota.merging.models import check_disk
from micota.merging.pruning import Pruning, TaskVector, alike, mask_of, pruning_of, scale_of
from micota.merging.slices import slices
from micota.merging.stream import ModelMerge

MOST_DENSITIES = 255  # that a byte can count


class DropCounts:
    """A file with one byte for each element of all tensors, in order: the number of densities that drop it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self.made: set[str] = set()  # names of tensors that are complete

    def write(self, start: int, counts: torch.Tensor) -> None:
        """Write uint8 values from element ``start`` on."""
        buffer = counts.numpy().data
        while buffer:
            count = os.pwrite(self._handle, buffer, start)
            buffer, start = buffer[count:], start + count

    def mask(self, start: int, stop: int, most: int) -> torch.Tensor:
        """float32, 1 where at most ``most`` densities drop an element and 0 where more do."""
        counts = np.empty(stop - start, dtype=np.uint8)
        buffer, offset = counts.data, start
        while buffer:
            count = os.preadv(self._handle, [buffer], offset)
            assert count > 0, "read before it was written"
            buffer, offset = buffer[count:], offset + count
        # Ten times as fast as from booleans.
        return torch.from_numpy((counts <= most).view(np.uint8)).to(torch.float32)

    def close(self) -> None:
        """Delete the file."""
        os.close(self._handle)
        self._path.unlink()


class Sweep:
    """Merges of ``tuned`` into ``base`` at any of ``densities`` and any weight and seed.

    Args:
        spec: the merge; ``merge`` sets density, weight and seed.
        names: the tensors to merge.
        folder: an existing folder for the files.

    Raises:
        ConfigError: there are more densities than a byte can count.
    """

    def __init__(
        self,
        spec: MergeSpec,
        base: Checkpoint,
        tuned: Sequence[Checkpoint],
        names: Sequence[str],
        densities: Sequence[float],
        folder: Path,
    ) -> None:
        self._spec = spec
        self._base = base
        self._tuned = tuned
        self._names = names
        self._densities = sorted({density for density in densities if density < 1})
        if len(self._densities) > MOST_DENSITIES:
            raise ConfigError(f"merge_sweep.densities has {len(densities)} values; accepted: at most {MOST_DENSITIES}")
        self._folder = folder
        sizes = [base.entries[name].num_elements for name in names]
        self._offsets = dict(zip(names, accumulate(sizes, initial=0), strict=False))
        self._num_elements = sum(sizes)
        self._files: dict[tuple[int, int], DropCounts] = {}
        self._scales: dict[tuple[int, int, str, float], float] = {}

    def merge(self, density: float, weight: float, seed: int) -> ModelMerge:
        """The merge at one point.

        Raises:
            MachineError: the disk is too small for the masks.
        """
        spec = replace(self._spec, density=density, weight=weight, seed=seed)
        if MERGE_METHODS[spec.method].is_nested:
            for model in range(len(self._tuned)):
                if (seed, model) not in self._files:
                    check_disk(self._folder, self._num_elements, "the masks of a sweep need")
                    self._files[seed, model] = DropCounts(self._folder / f"masks-{seed}-{model}")
        return ModelMerge(spec, self._base, self._tuned, self._names, prune=self._prune)

    def forget(self, seed: int) -> None:
        """Delete the masks of a seed."""
        for key in [key for key in self._files if key[0] == seed]:
            self._files.pop(key).close()

    def _prune(self, spec: MergeSpec, vector: TaskVector) -> Pruning | None:
        """As ``pruning_of``, with the masks of the sweep."""
        if not MERGE_METHODS[spec.method].is_nested or vector.share.density == 1:
            return pruning_of(spec, vector)
        file = self._files[spec.seed, vector.model]
        # The density of the second model is the same at every point.
        densities = self._densities if vector.model == 0 else [vector.share.density]
        offset = self._offsets[vector.tensor]
        if vector.tensor not in file.made:
            self._make(spec, vector, densities, file, offset)
        most = densities.index(vector.share.density)  # only lower densities drop an element that this one keeps
        mask = alike(lambda values, start, stop: file.mask(offset + start, offset + stop, most).to(values))
        # The scale does not depend on the weight: compute it once for all weights of a density.
        key = (spec.seed, vector.model, vector.tensor, vector.share.density)
        if key not in self._scales:
            self._scales[key] = scale_of(spec, vector, mask)
        return Pruning(mask, self._scales[key])

    def _make(
        self, spec: MergeSpec, vector: TaskVector, densities: Sequence[float], file: DropCounts, offset: int
    ) -> None:
        if MERGE_METHODS[spec.method].probability == "density":
            # One random number per element decides for all densities: a density at or below it drops the element.
            for start, stop in slices(vector.shape):
                file.write(offset + start, drop_counts(vector.share.key, start, stop, densities))
        else:
            shares = [replace(vector.share, density=density) for density in densities]
            masks = [mask_of(spec, replace(vector, share=share)) for share in shares]
            for start, stop in slices(vector.shape):
                values = vector.read(start, stop)
                kept = torch.stack([mask(values, start, stop)[0] for mask in masks]).sum(dim=0)
                file.write(offset + start, (len(masks) - kept).to("cpu", torch.uint8))
        file.made.add(vector.tensor)
