"""Worker processes against what they are there for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from micota.grading import worker
from micota.grading.pool import Workers

PLAIN = {"gold": {"answer": r"\frac{1}{2}"}, "prediction": r"\int_0^1 x dx"}
ENDLESS = {"gold": {"answer": "1"}, "prediction": r"\sum_{n=1}^{10^7} \sin n"}


def replies(workers: Workers, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    return [reply for _, reply in sorted(workers.map(enumerate(requests)))]


def test_no_request_starts_no_process() -> None:
    with Workers(2, 1.0, 2**31) as workers:
        assert replies(workers) == [] and workers._workers == []


def test_an_endless_comparison_costs_one_answer() -> None:
    with Workers(1, 1.0, 2**31) as workers:
        first, second = replies(workers, ENDLESS, PLAIN)
        assert first == {"verdict": None, "reason": "time limit of 1 s"}
        assert second["verdict"] is True and workers.num_replaced == 1


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="reads /proc")
def test_memory_is_limited_by_the_kernel() -> None:
    with Workers(1, 60.0, 3 * 2**29) as workers:
        replies(workers, PLAIN)
        limits = Path(f"/proc/{workers._workers[0].process.pid}/limits").read_text()
    assert re.search(rf"Max address space +{3 * 2**29} ", limits)


def test_a_worker_out_of_memory_gives_up_its_answer_and_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def eat(*_: object) -> bool:
        raise MemoryError

    monkeypatch.setattr(worker.symbolic, "equivalent", eat)
    assert worker.answer(PLAIN) == ({"verdict": None, "reason": "memory limit"}, False)


def test_a_killed_worker_is_replaced() -> None:
    with Workers(1, 60.0, 2**31) as workers:
        assert replies(workers, PLAIN)[0]["verdict"] is True
        os.kill(workers._workers[0].process.pid, signal.SIGKILL)
        assert replies(workers, PLAIN, PLAIN)[-1]["verdict"] is True
        assert workers.num_replaced == 1


ORPHANED = """
import os, signal, sys
from micota.grading.pool import Workers
workers = Workers(1, 600.0, 2**31)
endless = {"gold": {"answer": "1"}, "prediction": r"\\sum_{n=1}^{10^7} \\sin n"}
plain = {"gold": {"answer": "1"}, "prediction": "1"}
list(workers.map([(0, plain)]))
workers._workers[0].send(0, endless, 600.0)
print(workers._workers[0].process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def has_ended(process: int) -> bool:
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux sends a signal")
def test_a_busy_worker_ends_with_its_killed_parent() -> None:
    parent = subprocess.run([sys.executable, "-c", ORPHANED], capture_output=True, text=True, check=False)
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    deadline = time.monotonic() + 10
    while not has_ended(int(parent.stdout)) and time.monotonic() < deadline:
        os.sched_yield()
    assert has_ended(int(parent.stdout))


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="reads /proc")
def test_the_cpu_time_of_an_answer_is_limited_by_the_kernel() -> None:
    with Workers(1, 60.0, 2**31) as workers:
        replies(workers, PLAIN)
        limits = Path(f"/proc/{workers._workers[0].process.pid}/limits").read_text()
    found = re.search(r"Max cpu time +(\d+) ", limits)
    assert found and 65 <= int(found[1]) <= 90


def test_workers_are_gone_afterwards() -> None:
    with Workers(2, 60.0, 2**31) as workers:
        replies(workers, PLAIN, PLAIN)
        processes = [worker.process for worker in workers._workers]
    assert [process.poll() for process in processes] == [-signal.SIGKILL] * 2


def test_text_that_utf8_cannot_hold_passes() -> None:
    request = {"gold": {"answer": "x+1"}, "prediction": '\ud800\x00é\n{"a": 1}'}
    with Workers(1, 60.0, 2**31) as workers:
        assert replies(workers, request)[0]["verdict"] in (None, False)
