"""The GPUs of this machine, assigned to the stages of a pipeline that run at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from micota.machine import gpus

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus() -> list[str]:
    """The names, in the sense of ``CUDA_VISIBLE_DEVICES``, of the GPUs that this process may use."""
    given = os.environ.get(VISIBLE)
    names = [str(index) for index in range(len(gpus()))] if given is None else given.split(",")
    return [name.strip() for name in names if name.strip()] if gpus() else []


class AssignedGpus:
    """Hands out GPUs by name, each to one stage at a time."""

    def __init__(self, names: Sequence[str]) -> None:
        self._free = list(names)
        self._total = len(names)
        self._changed = threading.Condition()

    def __bool__(self) -> bool:
        return self._total > 0

    @contextmanager
    def assigned(self, count: int) -> Iterator[dict[str, str]]:
        """Wait until ``count`` GPUs are free, and hold them for the block; its value is their environment variable.

        A stage that needs more GPUs than there are gets all, and reports what it lacks. One that needs none has no
        variable, and no GPU.
        """
        count = min(count, self._total)
        if count == 0:
            yield {}
            return
        with self._changed:
            self._changed.wait_for(lambda: len(self._free) >= count)
            names, self._free = self._free[:count], self._free[count:]
        try:
            yield {VISIBLE: ",".join(names)}
        finally:
            with self._changed:
                # In order, so that the same GPUs are taken again where fewer stages run.
                self._free = sorted([*self._free, *names])
                self._changed.notify_all()
