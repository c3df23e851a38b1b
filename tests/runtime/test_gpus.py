"""Stages that run at a time have GPUs of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest

from micota import graph
from micota.artifacts.store import Store
from micota.cli.experiments import cases
from micota.console import open_console
from micota.machine import Gpu
from micota.runtime import gpus as assignment
from micota.runtime import runners
from micota.runtime.gpus import AssignedGpus, visible_gpus
from micota.runtime.plan import tasks_of

VISIBLE = "CUDA_VISIBLE_DEVICES"


def test_each_gpu_is_assigned_once_at_a_time() -> None:
    available, both = AssignedGpus(["0", "1", "2"]), Barrier(2)

    def hold(count: int) -> set[str]:
        with available.assigned(count) as environment:
            both.wait(timeout=60)  # both hold theirs
            return set(environment[VISIBLE].split(","))

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(hold, [1, 2])
    assert first | second == {"0", "1", "2"} and not first & second
    with available.assigned(5) as environment:
        assert environment == {VISIBLE: "0,1,2"}
    with available.assigned(0) as environment:
        assert environment == {}


def test_a_stage_that_fails_gives_its_gpu_back() -> None:
    available = AssignedGpus(["3"])
    with pytest.raises(ValueError, match="planted"), available.assigned(1):
        raise ValueError("planted")
    with available.assigned(1) as environment:
        assert environment == {VISIBLE: "3"}


@pytest.mark.parametrize(("given", "names"), [(None, ["0", "1"]), ("4,7", ["4", "7"]), ("", [])])
def test_the_gpus_are_those_that_the_command_may_use(
    monkeypatch: pytest.MonkeyPatch, given: str | None, names: list[str]
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    if given is not None:
        monkeypatch.setenv(VISIBLE, given)
    monkeypatch.setattr(assignment, "gpus", lambda: (Gpu(name="NVIDIA H100 80GB HBM3", memory_bytes=1),) * 2)
    assert visible_gpus() == names
    monkeypatch.setattr(assignment, "gpus", lambda: ())
    assert visible_gpus() == []


@pytest.mark.parametrize(("jobs", "seen"), [(2, "0"), (1, None)])
def test_a_stage_sees_its_gpus_alone_where_others_run_beside_it(
    composed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Any, jobs: int, seen: str | None
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setattr(runners, "visible_gpus", lambda: ["0", "1"])
    started: list[dict[str, str]] = []

    def run(words: list[str], env: dict[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        started.append(env)
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(runners, "subprocess", SimpleNamespace(run=run))
    overrides = ["experiment=micota", "student=qwen1.5b", "compare.recipes=[strong]", "bench=[gsm8k]"]
    config = composed("pipeline", *overrides, "runner=subprocess", f"artifacts={tmp_path}", "hardware=h100x8")
    made = graph.experiment(cases(config))
    task = next(task for task in tasks_of(graph.unique(made.targets())) if task.id == "train data=strong")
    with runners.open_runner(config, jobs, Store(tmp_path), open_console(), made.configs) as runner:
        runner(task)
    assert [environment.get(VISIBLE) for environment in started] == [seen]
