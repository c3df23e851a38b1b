"""The write of a checkpoint: within a step, or in a thread while the next steps run (``trainer.async_checkpoints``)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

State = TypeVar("State")


class Writing:
    """The parts of one write, in order; at most one write at a time.

    Args:
        is_async: they run in a thread, else at once.
    """

    group: Any = None  # of processes, for this thread alone; a group orders the calls of one thread

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint") if is_async else None
        self._stager = DefaultStager(StagingOptions(False, False, False, False)) if is_async else None
        self._parts: list[Future[None]] = []

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the write, whatever ended training: no thread may write when the folder is another run's."""
        if self._thread is not None and self._stager is not None:
            self._thread.shutdown()
            self._stager.close()

    def copied(self, state: State) -> State:
        """A state that later steps do not change: a copy in the machine's memory where the write is in a thread. The
        next copy uses its memory again, so it comes after the end of the write."""
        return state if self._stager is None else self._stager.stage(state)  # type: ignore[arg-type, return-value]

    def run(self, part: Callable[[], None]) -> None:
        """Run a part of the write after those before it, if none of them has failed."""
        if self._thread is None:
            part()
        else:
            self._parts.append(self._thread.submit(_after, [*self._parts], part))

    def join(self, *, wait: bool = True) -> None:
        """Raise the error of the write if it has failed.

        Args:
            wait: for its end; else nothing is raised before it.
        """
        if wait or all(part.done() for part in self._parts):
            parts, self._parts = self._parts, []
            for part in parts:
                part.result()

    def setup_group(self) -> None:
        """Make the group of processes; every rank must call this method."""
        if self.is_async and self.group is None:
            self.group = distributed.new_group(backend="gloo")

    def barrier(self, otherwise: Callable[[], Any]) -> None:
        """Wait for this part of all ranks."""
        if self.group is None:
            otherwise()
        else:
            distributed.barrier(group=self.group)


def _after(parts: Sequence[Future[None]], part: Callable[[], None]) -> None:
    for earlier in parts:
        earlier.result()
    part()


def save_synced(content: Any, path: Any) -> None:
    """``torch.save`` to the disk, or a power cut could leave an empty file after a rename."""
    with open(path, "wb") as handle:
        torch.save(content, handle)
        handle.flush()
        os.fsync(handle.fileno())
