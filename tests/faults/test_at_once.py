"""Several runs at once with the same artifacts: who meets an artifact in the making says so, and none hurts another."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from hurt_runs import EVERY_STAGE, Undisturbed, copied, finish, left_behind, results, start
from kills import IN_PROCESS, SUBPROCESS, WORKERS

from micota.errors import USER_ERROR

RUNNERS = [IN_PROCESS, WORKERS, SUBPROCESS, IN_PROCESS, WORKERS]


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 5])
def test_runs_at_once(undisturbed: Undisturbed, tmp_path: Path, number: int) -> None:
    artifacts = tmp_path / "artifacts"
    with ExitStack() as stack:
        runs = [stack.enter_context(start([*EVERY_STAGE, *setting.words], artifacts)) for setting in RUNNERS[:number]]
        ends = [(run.communicate(timeout=1800)[1], run.returncode) for run in runs]
    for errors, code in ends:
        assert code in (0, USER_ERROR), errors
        assert code == 0 or (errors.count("\n") == 1 and "is being made by another run" in errors), errors
    finish(EVERY_STAGE, artifacts)  # with workers, two runs may refuse each other
    assert results(artifacts) == undisturbed.results and not left_behind(artifacts)


def test_two_reports_at_once(undisturbed: Undisturbed, tmp_path: Path) -> None:
    artifacts = copied(undisturbed, tmp_path / "artifacts")
    with ExitStack() as stack:
        runs = [stack.enter_context(start(EVERY_STAGE, artifacts, script="report")) for _ in range(2)]
        ends = [(*run.communicate(), run.returncode) for run in runs]
    assert [code for *_, code in ends] == [0, 0] and ends[0][0] == ends[1][0], ends
    assert not left_behind(artifacts)
