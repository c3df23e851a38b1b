"""How a launcher and a signal meet a command."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from micota.errors import ConfigError
from micota.runtime import distributed


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
