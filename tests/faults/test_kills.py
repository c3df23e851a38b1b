"""Processes killed by SIGKILL: the same command goes on to the same bits, and nothing is left behind."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from hurt_runs import EVERY_STAGE, Undisturbed, copied, finish, undisturbed_run
from kills import IN_PROCESS, RANKS, SUBPROCESS, TRACKED, WORKERS, Tally, kill_once, killed_at_random

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans are found by a call of Linux")
SHARE_OF_RANKS = 0.1  # of the kills
FROM_THE_TA = ["models/*", "completions/*strong*", "completions/*micota*", "scores/*+*", "data/micota-*", "bpc/*"]
MOMENTS = [  # each waits for the one before, so none can have passed already
    (WORKERS, "worker", "models/tiny_ta+strong-*.partial/checkpoints/step=*.ckpt"),
    (WORKERS, "all", "models/*dare_ties*.partial"),
    (IN_PROCESS, "command", "completions/*dare_ties*@tiny-*.partial/completions.jsonl"),
]


def test_killed_as_it_trains_merges_and_generates(undisturbed: Undisturbed, tmp_path: Path) -> None:
    tally, artifacts = Tally(), copied(undisturbed, tmp_path / "artifacts", FROM_THE_TA)
    for setting, victim, moment in MOMENTS:
        assert not kill_once(
            setting, artifacts, tally, victim, lambda moment=moment: any(artifacts.glob(moment)), random.Random(0)
        )
    finish(EVERY_STAGE, artifacts)
    tally.compare(artifacts, undisturbed.results)
    tally.check()
    assert tally.kills.total() == tally.resumed == len(MOMENTS)


@pytest.mark.slow
def test_killed_at_random_moments(
    undisturbed: Undisturbed, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--kills`` is their number, for all runners and kinds of processes."""
    dice = random.Random(request.config.getoption("--kills-seed"))
    num_kills = request.config.getoption("--kills")
    num_of_ranks = round(num_kills * SHARE_OF_RANKS)
    of_ranks = undisturbed_run(tmp_path / "ranks", RANKS.words)
    tallies = []
    for settings, number, expected in (
        ([IN_PROCESS, WORKERS, SUBPROCESS, TRACKED], num_kills - num_of_ranks, undisturbed),
        ([RANKS], num_of_ranks, of_ranks),
    ):
        folder = tmp_path / f"kills{number}"
        tallies.append(killed_at_random(settings, number, folder, expected.results, expected.seconds / 2, dice))
        with capsys.disabled():
            print(f"\n{tallies[-1]}")
    for tally in tallies:
        tally.check()
