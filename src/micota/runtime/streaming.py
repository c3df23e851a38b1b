"""The progress of stages that run in other processes, on the console of the command that started them.

Each process writes the state of its bar to the folder of its artifact, and the command reads it once a second. This
works alike for workers, new processes and jobs on other machines that share the folder of artifacts.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.text import Text

from micota.artifacts.manifest import Manifest
from micota.artifacts.store import Store
from micota.console import PROGRESS, REPORT_EVERY_S, progress_bar, progress_line
from micota.runtime.execute import show_wait
from micota.runtime.plan import Task

READ_EVERY_S = 1.0
Run = Callable[[Task], list[Manifest]]


@contextmanager
def streaming(run: Run, store: Store, console: Console) -> Iterator[Run]:
    """``run``, which runs tasks in other processes, with their progress: on a terminal a row for each running task, in
    a file or pipe a line a minute."""
    ended = threading.Event()
    with progress_bar(console) as bar:
        rows = Rows(store, console, bar)

        def follow() -> None:
            while not ended.wait(READ_EVERY_S):
                rows.show()

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()

        def run_with_row(task: Task) -> list[Manifest]:
            rows.begin(task)
            try:
                return run(task)
            finally:
                rows.end(task)

        try:
            yield run_with_row
        finally:
            ended.set()
            thread.join()


class Rows:
    """The running tasks, each with its row and the time of its last printed line."""

    def __init__(self, store: Store, console: Console, bar: Progress) -> None:
        self._store, self._console, self._bar = store, console, bar
        self._lock = threading.Lock()
        self._running: dict[str, tuple[Task, TaskID]] = {}
        self._printed: dict[str, float] = {}

    def begin(self, task: Task) -> None:
        met = ((node, owner) for node in task.nodes if (owner := self._store.builder(node)) is not None)
        for node, owner in itertools.islice(met, 1):  # the process of the task will wait for it, and prints nothing
            show_wait(self._console, node, owner)
        row = self._bar.add_task(task.id, total=None, note="")
        with self._lock:
            self._running[task.id] = task, row
            self._printed[task.id] = time.monotonic()

    def end(self, task: Task) -> None:
        with self._lock:
            _, row = self._running.pop(task.id)
        self._bar.remove_task(row)

    def show(self) -> None:
        """Read the state of all running tasks and show it."""
        with self._lock:
            for task, row in self._running.values():
                if (state := self.state(task)) is None:
                    continue
                self._bar.update(row, **state)
                if not self._console.is_terminal and time.monotonic() - self._printed[task.id] >= REPORT_EVERY_S:
                    self._printed[task.id] = time.monotonic()
                    self._console.print(Text(progress_line(**state)))

    def state(self, task: Task) -> dict[str, Any] | None:
        """Description, completed, total and note of the running stage of a task; None before it has written them."""
        for node in task.nodes:
            path = self._store.partial(node) / PROGRESS
            try:
                state = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):  # not begun, just finished, or damaged
                continue
            if isinstance(state, dict):
                return state
        return None
