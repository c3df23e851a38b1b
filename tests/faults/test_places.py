"""Artifacts in odd places, of other times, modes and machines: they are found, and what is made there is the same."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hurt_runs import EVERY_STAGE, Undisturbed, copied, finish, left_behind, mounted, remount, results, start

from micota.errors import USER_ERROR

STUDENT = ["models/tiny_student*", "completions/tiny_student*", "scores/tiny_student*", "rank_shifts/*"]
ODD = "mit Leerzeichen, 学生 = l'été (2) & +100%"
YEARS_S = 10 * 365 * 86_400


def shift_times(folder: Path) -> None:
    """Let some files be ten years old, and others come from the future."""
    for index, path in enumerate(sorted(folder.rglob("*"))):
        at = time.time() + (YEARS_S if index % 2 else -YEARS_S)
        os.utime(path, (at, at))


def test_copied_to_an_odd_place_it_goes_on_from_any_folder_at_any_time(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    artifacts = copied(undisturbed, tmp_path / ODD / "artifacts", STUDENT)
    shift_times(artifacts)
    before = set(artifacts.rglob("*"))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    here = [*EVERY_STAGE, "runner=inprocess"]  # a worker is a fork of the server of the tests, with its umask
    printed = finish(here, artifacts, script="tests/jumping_clock", cwd=folder, umask=0o077)
    assert ", 4 to make" in printed and printed.count("report: ") == 1
    assert results(artifacts) == undisturbed.results and not left_behind(artifacts)
    assert not list(folder.iterdir()), "something was left in the working directory"
    for path in set(artifacts.rglob("*")) - before:
        assert path.stat().st_mode & 0o077 == 0, f"{path} can be read by others, under umask 077"
    moved = artifacts.rename(tmp_path / "renamed")
    printed = finish([*EVERY_STAGE, f"artifacts={moved.name}"], moved, env={"MICOTA_ARTIFACTS": "/nowhere"})
    assert ", 0 to make" in printed and f"report: {moved.name}/reports" in printed


def test_weights_and_caches_can_be_read_as_the_umask_has_it(undisturbed: Undisturbed) -> None:
    paths = [path for path in undisturbed.artifacts.rglob("*") if path.is_file()]
    assert {path.parts[len(undisturbed.artifacts.parts)] for path in paths} >= {
        "models",
        "cache",
        "reports",
        ".sums.jsonl",
    }
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o644}


@pytest.mark.parametrize("script", ["report", "pipeline"])
def test_a_read_only_folder_is_read(undisturbed: Undisturbed, tmp_path: Path, script: str) -> None:
    with mounted(tmp_path / "disk", "--bind", str(undisturbed.artifacts)) as artifacts:
        remount(artifacts, "ro,bind")
        with start(EVERY_STAGE, artifacts, script=script) as command:
            printed, errors = command.communicate()
    assert "TA merged at 0.5" in printed and "Traceback" not in errors
    assert command.returncode == USER_ERROR and errors.count("\n") == 1
    assert "cannot be written (Read-only file system)" in errors
