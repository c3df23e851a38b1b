"""The long form of damage: real artifacts of every kind that a run makes, damaged between two runs of the pipeline."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from damages import OF_FILES
from hurt_runs import EVERY_STAGE, Undisturbed, copied, left_behind, results, start

from micota.artifacts.inventory import kinds
from micota.artifacts.manifest import read_manifest
from micota.artifacts.store import verified_folder
from micota.errors import ArtifactError

OF_OTHERS = {"determinism", "forecasts", "targets"}  # which this run does not make


def artifacts_of(folder: Path) -> dict[str, Path]:
    """The artifacts below a folder, by key."""
    return {read_manifest(path.parent).key: path.parent for path in sorted(folder.glob("*/*/manifest.json"))}


def below(folder: Path, key: str) -> set[Path]:
    """The artifacts that were made from that of a key, directly or through others; of a point, the sweeps."""
    every = artifacts_of(folder)
    found = {path for path in every.values() if path.parent.name == "merge_sweeps"} if key in points(every) else set()
    for made, path in every.items():
        if key in {entry["key"] for entry in read_manifest(path).inputs.values()}:
            found |= {path, *below(folder, made)}
    return found


def points(every: dict[str, Path]) -> set[str]:
    return {key for key, path in every.items() if path.parent.name == "merge_points"}


def damages(folder: Path) -> list[tuple[str, Path, str]]:
    """Each kind of damage to each file of the first artifact of each kind, with the artifact and the file's name."""
    firsts = {path.parent.name: path for path in reversed([*artifacts_of(folder).values()])}
    assert set(firsts) == kinds() - OF_OTHERS - {name for name in kinds() if not (folder / name).exists()}
    return [
        (damage, path, name) for path in firsts.values() for name in sorted(read_manifest(path).files)
        for damage in OF_FILES if damage != "swap" and (path / name).stat().st_size
    ]  # fmt: skip


@pytest.mark.slow
def test_every_file_of_every_kind_is_compared(undisturbed: Undisturbed, tmp_path: Path) -> None:
    artifacts, unnoticed = copied(undisturbed, tmp_path / "artifacts"), []
    for damage, path, name in damages(artifacts):
        content = (path / name).read_bytes()
        OF_FILES[damage](path, path, name)
        try:
            verified_folder(path)
            unnoticed.append(f"{damage} {path / name}")
        except ArtifactError as error:
            assert f"rm -r {path} && " in str(error)
        (path / "foreign.safetensors").unlink(missing_ok=True)
        if (path / name).is_dir():
            (path / name).rmdir()
        (path / name).write_bytes(content)
        (path / name).parent.joinpath("foreign.safetensors").unlink(missing_ok=True)
    assert not unnoticed
    assert results(artifacts) == undisturbed.results


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(kinds() - OF_OTHERS))
def test_a_run_with_a_damaged_artifact_is_one_line_and_the_printed_command_mends_it(
    kind: str, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """What was made from it is gone, so that the next run needs it; the report needs what nothing is made from."""
    if not (undisturbed.artifacts / kind).exists():
        pytest.skip(f"the run makes no {kind}")
    artifacts = copied(undisturbed, tmp_path / "artifacts")
    path = min(path for path in artifacts_of(artifacts).values() if path.parent.name == kind)
    key, name = read_manifest(path).key, max(read_manifest(path).files, key=lambda name: (path / name).stat().st_size)

    for made in below(artifacts, key):
        shutil.rmtree(made)
    OF_FILES["flip"](path, path, name)
    with start(EVERY_STAGE, artifacts) as command:
        _, errors = command.communicate()
    assert command.returncode == 2 and errors.count("\n") == 1, errors
    assert str(path / name) in errors and f"rm -r {path} && " in errors
    assert not left_behind(artifacts)
    shutil.rmtree(path)
    with start(EVERY_STAGE, artifacts) as command:
        _, errors = command.communicate()
    assert command.returncode == 0, errors
    assert results(artifacts) == undisturbed.results
