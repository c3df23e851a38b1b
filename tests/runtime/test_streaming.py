"""Progress of stages in other processes: a row on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import io
import json
import os
import platform
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from micota import graph
from micota.artifacts.manifest import Manifest
from micota.artifacts.store import Store
from micota.console import PROGRESS, progress_bar
from micota.runtime import streaming as module
from micota.runtime.plan import Task, tasks_of
from micota.runtime.streaming import streaming

Composed = Callable[..., Any]


class Watched(io.StringIO):
    """What is printed; ``seen`` is set when ``text`` is in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.seen = threading.Event()

    def write(self, printed: str) -> int:
        count = super().write(printed)
        if self.text in self.getvalue():
            self.seen.set()
        return count


def a_task(composed: Composed) -> Task:
    config = composed("generate", "experiment=tiny", "data=strong")
    return tasks_of([graph.data(config, config.data)])[0]


def advance(folder: Path, completed: int) -> None:
    """What a stage in a worker does: the console of the worker shows nothing."""
    with progress_bar(Console(quiet=True), folder) as bar:
        row = bar.add_task("strong", total=96, note="")
        bar.update(row, completed=completed, note="3 tokens/s")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_state_in_another_process_is_shown(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    monkeypatch.setattr(module, "READ_EVERY_S", 0.01)
    monkeypatch.setattr(module, "REPORT_EVERY_S", 0.0)
    task, store = a_task(composed), Store(tmp_path)
    printed = Watched("32/96" if is_terminal else "strong: 32 of 96, 3 tokens/s\n")
    console = Console(file=printed, width=150, force_terminal=is_terminal, soft_wrap=True)

    def run(task: Task) -> list[Manifest]:
        folder = store.partial(task.nodes[0])
        folder.mkdir(parents=True)
        advance(folder, 32)
        assert printed.seen.wait(30), printed.getvalue()
        return []

    with streaming(run, store, console) as streamed:
        assert streamed(task) == []


def test_lines_come_once_a_minute_and_none_without_a_stage(composed: Composed, tmp_path: Path) -> None:
    task, store = a_task(composed), Store(tmp_path)
    console = Console(file=io.StringIO(), width=120, soft_wrap=True)
    with progress_bar(console) as bar:
        rows = module.Rows(store, console, bar)
        rows.begin(task)
        assert rows.state(task) is None
        store.partial(task.nodes[0]).mkdir(parents=True)
        advance(store.partial(task.nodes[0]), 32)
        for _ in range(3):
            rows.show()
        rows.end(task)
        rows.show()
    assert isinstance(console.file, io.StringIO) and console.file.getvalue() == ""


def test_a_task_whose_artifact_another_run_makes_names_that_run(composed: Composed, tmp_path: Path) -> None:
    task, store = a_task(composed), Store(tmp_path)
    console = Console(file=io.StringIO(), width=120, soft_wrap=True)
    with store.build(task.nodes[0], seed=0), progress_bar(console) as bar:
        module.Rows(store, console, bar).begin(task)
    who = f"process {os.getpid()} on {platform.node()}"
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == f"waiting: another run makes {task.nodes[0].folder} ({who})\n"


def test_a_stage_in_a_pipe_prints_a_line_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=120, soft_wrap=True)
    with progress_bar(console, tmp_path) as bar:
        row = bar.add_task("strong", total=96, note="")
        for _ in range(3):
            bar.update(row, advance=1)
        assert isinstance(console.file, io.StringIO) and console.file.getvalue() == ""
        monkeypatch.setattr("micota.console.REPORT_EVERY_S", 0.0)
        bar.update(row, advance=1, note="3 tokens/s")
    assert console.file.getvalue() == "strong: 4 of 96, 3 tokens/s\n"


def test_the_state_is_no_file_of_the_artifact(composed: Composed, tmp_path: Path) -> None:
    task, store = a_task(composed), Store(tmp_path)
    with store.build(task.nodes[0], seed=0) as build:
        assert build is not None
        advance(build.path, 32)
        assert json.loads((build.path / PROGRESS).read_text())["completed"] == 32
    manifest = store.manifest(task.nodes[0])
    assert manifest is not None and manifest.files == {}
    assert not (store.path(task.nodes[0]) / PROGRESS).exists()
