"""A stage in a process of its own ends with the pipeline that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from micota.errors import ConfigError
from micota.runtime import distributed

STAGE = """
import os, signal
from micota.runtime.distributed import STARTER, follow_starter
signal.signal(signal.SIGTERM, lambda *_: (print("SIGTERM", flush=True), os._exit(0)))
follow_starter()
print(os.environ.get(STARTER), flush=True)
signal.pause()
"""
PIPELINE = f"""
import subprocess, sys
from micota.runtime.distributed import started_by_this_process
subprocess.run([sys.executable, "-c", {STAGE!r}], env=started_by_this_process())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux does it")
def test_it_is_asked_to_stop_when_the_pipeline_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PIPELINE], stdout=subprocess.PIPE, text=True) as pipeline:
        assert pipeline.stdout is not None
        assert pipeline.stdout.readline() == "None\n", "what a stage starts must not follow the pipeline"
        pipeline.kill()
        assert pipeline.stdout.read() == "SIGTERM\n"  # ends when the stage has closed the pipe, too


def test_it_does_not_begin_where_the_pipeline_has_ended_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "end_with_parent", lambda signum: None)  # would hold for this process of tests
    monkeypatch.setenv(distributed.STARTER, str(os.getppid()))
    distributed.follow_starter()
    monkeypatch.setenv(distributed.STARTER, "1" if os.getppid() != 1 else "2")
    with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)):
        distributed.follow_starter()


def test_a_job_whose_time_is_over_goes_back_to_the_queue_after_its_checkpoint(request: pytest.FixtureRequest) -> None:
    """The signal reaches the handler that submitit set, which requeues and exits."""

    def requeue(signum: int, _frame: object) -> None:
        raise SystemExit("requeued")

    before = signal.signal(signal.SIGUSR2, requeue)
    request.addfinalizer(lambda: signal.signal(signal.SIGUSR2, before))
    with pytest.raises(SystemExit, match="requeued"):
        distributed.stop(128 + signal.SIGUSR2, "stopped by SIGUSR2 after step 3")


@pytest.mark.parametrize("num_processes", [1, 4])
def test_a_launcher_that_starts_other_processes_than_devices_is_refused(
    composed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, num_processes: int
) -> None:
    """Ranks that a process of torchrun would start, too, would wait for its store."""
    config = composed("train", "experiment=tiny", "data=strong", "trainer.devices=2")
    distributed.check_launch(config)
    for name, value in {"WORLD_SIZE": num_processes, "RANK": 0, "TORCHELASTIC_RUN_ID": "1"}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ConfigError, match=rf"the launcher started {num_processes} processes, but trainer.devices=2"):
        distributed.check_launch(config)


def test_sigterm_ends_a_command_with_a_line() -> None:
    code = (
        "import signal; from micota.runtime.distributed import note_sigterm; note_sigterm(); print(flush=True); "
        "signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        _, printed = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert printed == b"stopped by SIGTERM; the same command goes on from here\n"
