"""Killable worker processes for comparisons that may never end or exhaust memory.

Each has a time limit per answer, enforced by its parent, and a memory limit, enforced by the kernel. A worker that
breaks either is killed and replaced. Its answer is ungradable, and the run goes on. Requests and replies are JSON
lines over pipes: nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from micota.processes import started_by_this_process

START_SECONDS = 120.0  # imports on a machine that is busy with a model


class Workers:
    """A pool of comparison workers, started at the first request.

    ``seconds`` is the time limit of one answer, ``memory_bytes`` that of one worker's address space. Use as a context
    manager: its exit ends all workers. ``map`` is lazy and yields replies as they finish.
    """

    def __init__(self, num_workers: int, seconds: float, memory_bytes: int) -> None:
        self.num_workers = num_workers
        self.seconds = seconds
        self.memory_bytes = memory_bytes
        self.num_replaced = 0
        self._workers: list[_Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def map(self, requests: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """``(index, reply)`` for each ``(index, request)``, as they finish."""
        waiting = deque(requests)
        if not waiting:
            return
        wanted = min(self.num_workers, len(waiting))
        self._workers += [_Worker(self.memory_bytes, self.seconds) for _ in range(wanted - len(self._workers))]
        while waiting or any(worker.index is not None for worker in self._workers):
            for worker in self._workers:
                if waiting and worker.is_idle:
                    worker.send(*waiting.popleft(), self.seconds)
            yield from self._collect()

    def _collect(self) -> list[tuple[int, dict[str, Any]]]:
        """Wait until a worker replies or breaks its limit; replace those that have ended."""
        now = time.monotonic()
        next_deadline = min(worker.deadline for worker in self._workers)
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                selector.register(worker.output, selectors.EVENT_READ, worker)
            ready = [key.data for key, _ in selector.select(max(0.0, next_deadline - now))]
        done: list[tuple[int, dict[str, Any]]] = []
        for worker in ready:
            done += worker.receive()
        now = time.monotonic()
        for position, worker in enumerate(self._workers):
            if worker.is_gone or now >= worker.deadline:
                if worker.index is not None:
                    reason = "worker ended" if worker.is_gone else f"time limit of {self.seconds:g} s"
                    done.append((worker.index, {"verdict": None, "reason": reason}))
                elif not worker.is_ready:
                    raise RuntimeError(
                        "a grading worker did not start; run: python -m micota.grading.worker 4294967296 10"
                    )
                worker.kill()
                self.num_replaced += 1
                self._workers[position] = _Worker(self.memory_bytes, self.seconds)
        return done


class _Worker:
    """One process and its current request."""

    def __init__(self, memory_bytes: int, seconds: float) -> None:
        environment = started_by_this_process() | {
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "micota.grading.worker", str(memory_bytes), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C goes to the parent, which ends its workers
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout
        os.set_blocking(self.output.fileno(), False)
        self.buffer = b""
        self.index: int | None = None
        self.is_ready = False
        self.is_gone = False
        self.deadline = time.monotonic() + START_SECONDS

    @property
    def is_idle(self) -> bool:
        return self.is_ready and not self.is_gone and self.index is None

    def send(self, index: int, request: Mapping[str, Any], seconds: float) -> None:
        self.index = index
        self.deadline = time.monotonic() + seconds
        try:
            self.input.write(json.dumps(request).encode() + b"\n")  # JSON in ASCII: lone surrogates pass as escapes
            self.input.flush()
        except OSError:
            self.is_gone = True

    def receive(self) -> list[tuple[int, dict[str, Any]]]:
        """Complete replies. The end of the pipe means that the process has ended."""
        chunk = self.output.read()
        if chunk == b"":
            self.is_gone = True
        self.buffer += chunk or b""
        *lines, self.buffer = self.buffer.split(b"\n")
        replies = []
        for line in lines:
            if not self.is_ready:
                self.is_ready = True
            elif self.index is not None:
                replies.append((self.index, json.loads(line)))
                self.index = None
            self.deadline = float("inf")
        return replies

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.input.close()
        self.output.close()
