"""Merge whole models, tensor by tensor and slice by slice, to disk or as a stream of tensors."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from micota.checkpoint import Checkpoint, CheckpointWriter
from micota.errors import ConfigError
from micota.graph import MergeSpec
from micota.merging.methods import Tally, TensorMerge
from micota.merging.plan import depths, shares
from micota.merging.pruning import Pruner, pruning_of
from micota.merging.slices import Read
from micota.weight_files import not_finite

Item = TypeVar("Item")
Result = TypeVar("Result")
OUTPUT = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def output_dtype(spec: MergeSpec, tuned: Checkpoint) -> torch.dtype:
    """The dtype of the merged weights: that of ``spec`` or, if it is auto, of most elements of the fine-tuned model."""
    if spec.dtype != "auto":
        return OUTPUT[spec.dtype]
    elements: Counter[torch.dtype] = Counter()
    for entry in tuned.entries.values():
        elements[entry.dtype] += entry.num_elements
    return elements.most_common(1)[0][0]


class ModelMerge:
    """The merge of whole checkpoints.

    As many threads as torch may use take the tensors in turn. One thread merges a tensor, in slices that depend on its
    shape alone. So the number of threads, shards and order do not change a bit of the result.
    """

    def __init__(
        self,
        spec: MergeSpec,
        base: Checkpoint,
        tuned: Sequence[Checkpoint],
        names: Sequence[str],
        device: torch.device | str = "cpu",
        prune: Pruner = pruning_of,
    ) -> None:
        self._spec = spec
        self._base = base
        self._tuned = tuned
        self._depths = depths(names)
        self._device = device
        self._prune = prune
        self.dtype = output_dtype(spec, tuned[0])
        self.shapes = {name: base.entries[name].shape for name in names}

    def write(self, writer: CheckpointWriter) -> dict[str, Tally]:
        """Write every tensor; returns the statistics of each.

        Raises:
            ConfigError: a value is not finite.
        """

        def one(name: str) -> Tally:
            merge = self._tensor(name)
            for start, values in merge.parts():
                writer.write(name, start, values.to("cpu", self.dtype))
            self._check_finite(name, merge.tally)
            return merge.tally

        with _one_torch_thread() as workers:
            return dict(zip(self.shapes, in_parallel(one, self.shapes, workers), strict=True))

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every merged tensor with its name, in the dtype of the merge and on its device.

        Raises:
            ConfigError: a value is not finite.
        """

        def one(name: str) -> tuple[str, torch.Tensor]:
            merge = self._tensor(name)
            # In the final dtype from the start: a float32 copy of a 14B model's embeddings alone is 3 GB.
            flat = torch.empty(math.prod(self.shapes[name]), dtype=self.dtype, device=self._device)
            for start, values in merge.parts():
                flat[start : start + len(values)] = values
            self._check_finite(name, merge.tally)
            return name, flat.view(self.shapes[name])

        with _one_torch_thread() as workers:
            yield from in_parallel(one, self.shapes, workers)

    def _tensor(self, name: str) -> TensorMerge:
        return TensorMerge(
            spec=self._spec,
            name=name,
            shape=self.shapes[name],
            base=self._read(self._base, name),
            tuned=[self._read(checkpoint, name) for checkpoint in self._tuned],
            shares=shares(self._spec, len(self._tuned), name, self._depths[name]),
            prune=self._prune,
        )

    def _read(self, checkpoint: Checkpoint, name: str) -> Read:
        return lambda start, stop: checkpoint.read(name, start, stop).to(self._device, torch.float32)

    def _check_finite(self, name: str, tally: Tally) -> None:
        """Raise if a norm is not finite, as any value that is not finite makes it; only then search the value."""
        if math.isfinite(tally.merged_squares) and all(map(math.isfinite, tally.task_vector_squares)):
            return
        # inf or nan in any addend makes the sum of squares inf or nan. The search reads the tensor again.
        for checkpoint in (self._base, *self._tuned):
            problem = not_finite(checkpoint.read(name, 0, checkpoint.entries[name].num_elements))
            if problem is not None:
                raise ConfigError(f"{checkpoint.entries[name].file}: {name} has {problem}; accepted: finite numbers")
        raise ConfigError(f"the merge made values of {name} that are not finite; lower merge.weight")


@contextmanager
def _one_torch_thread() -> Iterator[int]:
    """Run each torch operation in one thread; yields the number of threads for workers.

    A sum over several threads would depend on their number.
    """
    # Workers take whole tensors instead: torch's threads would change the order of addition in a sum.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def in_parallel(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Results in the order of ``items``, of which at most ``workers`` are running or waiting to be yielded."""
    if workers == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[Result]] = deque()
        try:
            for item in items:
                if len(running) == workers:
                    yield running.popleft().result()
                running.append(pool.submit(function, item))
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
