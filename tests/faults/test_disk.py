"""Full disks, at every stage: one line that names a file and the remedy, and the same command goes on."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from fork_server import Command
from hurt_runs import EVERY_STAGE, Undisturbed, copied, finish, left_behind, mounted, remount, results, start
from kills import IN_PROCESS, SUBPROCESS, WORKERS

from micota.artifacts.inventory import size_of
from micota.errors import USER_ERROR

KIB = 1024
STUDENT = ["models/tiny_student*", "completions/tiny_student*", "scores/tiny_student*", "rank_shifts/*", "data/micota*"]


def full(command: Command, artifacts: Path) -> str:
    """The one line of a command that ran out of disk."""
    _, errors = command.communicate()
    assert command.returncode == USER_ERROR and errors.count("\n") == 1, errors
    assert str(artifacts) in errors and "free some space" in errors
    return errors


def test_a_full_disk_is_one_line_that_names_the_file(undisturbed: Undisturbed, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1G", "tmpfs") as disk:
        artifacts = copied(undisturbed, disk / "artifacts", STUDENT)
        used = shutil.disk_usage(disk).used
        for free, place in ((8 * KIB, "data/micota-"), (512 * KIB, "models/tiny_student+micota-")):
            remount(disk, f"size={used + free}")
            with start(EVERY_STAGE, artifacts) as command:
                assert place in full(command, artifacts)
        remount(disk, "size=1G")
        finish(EVERY_STAGE, artifacts)
        assert results(artifacts) == undisturbed.results and not left_behind(artifacts)


@pytest.mark.slow
def test_a_disk_that_is_full_again_and_again(
    undisturbed: Undisturbed, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--full-disks`` is how often, from the first file to the last."""
    number, dice = request.config.getoption("--full-disks"), random.Random(0)
    step = 2 * size_of(undisturbed.artifacts) // number
    places = []
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", f"size={step}", "tmpfs") as disk:
        artifacts = disk / "artifacts"
        for count in range(1, 100 * number):
            remount(disk, f"size={count * step}")
            with start([*EVERY_STAGE, *dice.choice([IN_PROCESS, WORKERS, SUBPROCESS]).words], artifacts) as command:
                _, errors = command.communicate()
            if command.returncode == 0:
                break
            ends_well = command.returncode == USER_ERROR and errors.count("\n") == 1 and str(artifacts) in errors
            places.append(errors if not ends_well else "")
        with capsys.disabled():
            print(f"\n{len(places)} full disks, {sum(map(bool, places))} wrong ends")
        assert not any(places), "\n".join(filter(None, places))
        assert results(artifacts) == undisturbed.results and not left_behind(artifacts)
