"""Workers of a pipeline that end before their task does."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from micota.errors import StageError
from micota.runtime import runners
from micota.runtime.plan import Task


def ends_itself(signum: signal.Signals, task: Task) -> Any:
    os.kill(os.getpid(), signum)
    signal.pause()


def process_of(config: Any, task: Task) -> int:
    return os.getpid()


@pytest.mark.parametrize(("signum", "text"), [
    (signal.SIGKILL, "the worker that ran train data=micota was killed by signal 9; is memory short?"),
    (signal.SIGTERM, r"the worker that ran train data=micota was ended by signal 15 \(SIGTERM\); the same command"),
])  # fmt: skip
def test_the_signal_that_ended_a_worker_is_named(
    monkeypatch: pytest.MonkeyPatch, signum: signal.Signals, text: str
) -> None:
    monkeypatch.setattr(runners, "_in_worker", ends_itself)
    config: Any = signum
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(2, mp_context=context) as pool, pytest.raises(StageError, match=text):
        pool.submit(os.getpid).result()
        runners._in_pool(pool, {}, config, Task("train", {"data": "micota"}))


def test_the_signal_that_ended_an_idle_worker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "_in_worker", process_of)
    config: Any = None
    task = Task("train", {"data": "micota"})
    known: dict[int, Any] = {}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
        process: Any = runners._in_pool(pool, known, config, task)
        os.kill(process, signal.SIGKILL)
        while not pool._broken:  # type: ignore[attr-defined]
            os.sched_yield()
        with pytest.raises(StageError, match="was killed by signal 9; is memory short"):
            runners._in_pool(pool, known, config, task)
