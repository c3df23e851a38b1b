"""Several runs at once with the same artifacts: who meets an artifact in the making waits for it, and uses it."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
from hurt_runs import EVERY_STAGE, Undisturbed, copied, left_behind, results, start
from kills import IN_PROCESS, SUBPROCESS, WORKERS, Setting, is_waited_for

from micota.artifacts.locks import LOCK
from micota.artifacts.store import PARTIAL

RUNNERS = [IN_PROCESS, WORKERS, SUBPROCESS, IN_PROCESS, WORKERS]


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 5])
def test_runs_at_once(undisturbed: Undisturbed, tmp_path: Path, number: int) -> None:
    artifacts = tmp_path / "artifacts"
    with ExitStack() as stack:
        runs = [stack.enter_context(start([*EVERY_STAGE, *setting.words], artifacts)) for setting in RUNNERS[:number]]
        ends = [(run.communicate(timeout=1800)[1], run.returncode) for run in runs]
    assert [code for _, code in ends] == [0] * number, ends
    assert results(artifacts) == undisturbed.results and not left_behind(artifacts)


@pytest.mark.slow
@pytest.mark.parametrize("waits", RUNNERS[:3], ids=lambda setting: setting.words[0])
def test_a_run_that_waits_takes_over_from_one_that_is_killed(
    undisturbed: Undisturbed, tmp_path: Path, waits: Setting
) -> None:
    model = next(Path(name).name for name in undisturbed.results if name.startswith("models/tiny_ta+strong-"))
    again = ["models/*", "scores/*", "bpc/*", "data/micota-*", "merge_sweeps/*"]
    artifacts = copied(undisturbed, tmp_path / "artifacts", without=again)
    lock = artifacts / "models" / f"{model}{PARTIAL}" / LOCK
    with ExitStack() as stack:
        first = stack.enter_context(start([*EVERY_STAGE, *IN_PROCESS.words], artifacts))
        while not lock.exists():
            assert first.poll() is None
        first.send_signal(signal.SIGSTOP)  # else it may be done before the other one meets it
        second = stack.enter_context(start([*EVERY_STAGE, *waits.words], artifacts))
        while not is_waited_for(lock):
            assert second.poll() is None
        first.kill_group()
        printed, errors = second.communicate(timeout=1800)
    assert second.returncode == 0, errors
    assert f"waiting: another run makes models/{model} (process {first.pid} on " in printed
    made = results(artifacts)  # without models that nothing needs again
    assert f"models/{model}" in made and made.items() <= undisturbed.results.items() and not left_behind(artifacts)


def test_two_reports_at_once(undisturbed: Undisturbed, tmp_path: Path) -> None:
    artifacts = copied(undisturbed, tmp_path / "artifacts")
    with ExitStack() as stack:
        runs = [stack.enter_context(start(EVERY_STAGE, artifacts, script="report")) for _ in range(2)]
        ends = [(*run.communicate(), run.returncode) for run in runs]
    assert [code for *_, code in ends] == [0, 0] and ends[0][0] == ends[1][0], ends
    assert not left_behind(artifacts)
