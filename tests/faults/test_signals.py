"""SIGTERM and Ctrl-C, once and twice, in every runner: one line, the right exit code, and the same command goes on."""

from __future__ import annotations

import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hurt_runs import EVERY_STAGE, Undisturbed, finish, left_behind, results, start
from kills import IN_PROCESS, SUBPROCESS, WORKERS, Processes, Setting, kind_of

from micota.processes import GOES_ON

SIGNALS = {
    "Ctrl-C": [signal.SIGINT],
    "Ctrl-C twice": [signal.SIGINT, signal.SIGINT],
    "SIGTERM": [signal.SIGTERM],
}
IN_TERMINAL = (
    "command",
    "child",
    "worker",
)  # which a Ctrl-C there reaches; ranks and graders have sessions of their own
CODES = {signal.SIGINT: (128 + signal.SIGINT,), signal.SIGTERM: (-signal.SIGTERM, 128 + signal.SIGTERM)}


def stop(setting: Setting, artifacts: Path, name: str, *, in_terminal: bool, seconds: float) -> str | None:
    """Send signals to a run after some seconds; what is wrong with its end. None: it ended before."""
    with Processes() as processes, start([*EVERY_STAGE, *setting.words], artifacts) as command:
        deadline = time.monotonic() + seconds
        while command.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)  # polls for the moment
        if command.poll() is not None:
            return None
        for number in SIGNALS[name]:
            for process in processes.alive():
                if process.pid == command.pid or (in_terminal and kind_of(process, command.pid) in IN_TERMINAL):
                    with suppress(psutil.NoSuchProcess):
                        process.send_signal(number)
            time.sleep(0.05)  # as a user who presses it twice
        _, errors = command.communicate(timeout=900)
        orphans = processes.orphans()
    lines = errors.splitlines()
    ends_well = command.returncode in (*CODES[SIGNALS[name][0]], 0) and len(lines) <= 1 and not orphans
    if ends_well and (command.returncode == 0 or (lines and lines[0].endswith(GOES_ON))):
        return ""
    where = "everywhere" if in_terminal else "to the command"
    return f"{' '.join(setting.words)}, {name} {where} after {seconds:.1f} s: {command.returncode} {errors} {orphans}"


@pytest.mark.slow
def test_signals_at_random_moments(
    undisturbed: Undisturbed, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--signals`` is their number, for all runners."""
    dice, artifacts = random.Random(0), tmp_path / "artifacts"
    number = request.config.getoption("--signals")
    wrong: list[str] = []
    while len(wrong) < number:
        setting, name = dice.choice([IN_PROCESS, WORKERS, SUBPROCESS]), dice.choice([*SIGNALS])
        in_terminal, seconds = dice.random() < 0.5, dice.uniform(0, undisturbed.seconds / 2)
        ended = stop(setting, artifacts, name, in_terminal=in_terminal, seconds=seconds)
        if ended is not None:
            wrong.append(ended)
        elif results(artifacts) == undisturbed.results:
            shutil.rmtree(artifacts)  # finished: the next run begins anew
        else:
            wrong.append(f"a run ended before it was stopped, with other results: {results(artifacts)}")
    finish(EVERY_STAGE, artifacts)
    with capsys.disabled():
        print(f"\n{number} signals, {sum(map(bool, wrong))} wrong ends")
    assert not any(wrong), "\n".join(filter(None, wrong))
    assert results(artifacts) == undisturbed.results and not left_behind(artifacts)
