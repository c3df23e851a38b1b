"""Merges measured in memory against the slow way, by the commands as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fork_server
import pytest
from conftest import SMALL
from fork_server import ROOT

from micota.artifacts.jsonl import read_jsonl
from micota.artifacts.manifest import read_manifest
from micota.cli.app import main
from micota.records import Completion, MergePoint
from micota.stages import merge_sweep

Command = Callable[..., subprocess.CompletedProcess[str]]
SWEEP = [*SMALL, "merge_sweep.num_problems=12", "merge_sweep.weights=[0.3,0.6]", "merge_sweep.num_seeds=2"]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """With the TA after SFT, which every merge needs."""
    folder = tmp_path_factory.mktemp("merge_sweep") / "artifacts"
    env = os.environ | {"MICOTA_ARTIFACTS": str(folder)}
    for script, choice in (("generate.py", "data=strong"), ("train.py", "role=ta")):
        fork_server.run(str(ROOT / script), [*SMALL, choice], env).check_returncode()
    yield folder


@pytest.fixture
def command(run_command: Command, artifacts: Path) -> Command:
    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_command(name, *arguments, MICOTA_ARTIFACTS=str(artifacts))

    return run


def texts(path: Path) -> dict[tuple[str, int], str]:
    return {(row.problem_id, row.sample): row.completion for row in read_jsonl(path, Completion)}


def test_a_merge_sweep_writes_what_a_merge_on_disk_would(command: Command, artifacts: Path) -> None:
    finished = command("merge", *SWEEP, "sweep=true")
    assert finished.returncode == 0, finished.stderr
    [folder] = (artifacts / "merge_sweeps").glob("tiny_ta+strong.dare_ties-??????????")
    points = read_jsonl(folder / "points.jsonl", MergePoint)
    assert [(p.form, p.weight, p.seed) for p in points] == [
        ("before", None, 0), ("after", None, 0),
        ("merged", 0.3, 0), ("merged", 0.3, 1), ("merged", 0.6, 0), ("merged", 0.6, 1),
    ]  # fmt: skip
    assert len({p.num_tokens for p in points if p.form == "merged"}) > 1
    assert "plotly" in (folder / "index.html").read_text() and "before SFT" in (folder / "index.html").read_text()
    assert not list(artifacts.glob("models/*dare*")), "a merge sweep wrote a model"
    [line] = [line for line in finished.stdout.splitlines() if "most accurate of them as a model" in line]
    assert (
        "python merge.py merge.density=0.5 merge.weight=0." in line
        and "sweep" not in line
        and "merge_sweep" not in line
    )
    merged = command("merge", *SMALL, "merge.weight=0.6")
    assert merged.returncode == 0, merged.stderr
    same = [
        "bench.easy.path=bundled:train.jsonl",
        "bench.easy.id_column=id",
        "bench.easy.num_rows=1600",
        "bench.easy.limit=12",
    ]
    answered = command("evaluate", *SMALL, "role=ta_merged", "merge.weight=0.6", *same)
    assert answered.returncode == 0, answered.stderr
    [completions] = artifacts.glob("completions/*dare_ties-d0.5-w0.6@easy-*/completions.jsonl")
    [point] = [point for point in points if (point.weight, point.seed) == (0.6, 0)]
    assert texts(completions) == texts(artifacts / point.artifact / "completions.jsonl")


def test_one_more_point_is_measured_alone(command: Command, artifacts: Path) -> None:
    """After the sweep above; the same points in another order are the same sweep."""
    before = {path.name for path in (artifacts / "merge_sweeps").iterdir()}
    again = command("merge", *SWEEP, "sweep=true", "merge_sweep.weights=[0.6,0.3]")
    assert again.returncode == 0 and "done already" in again.stdout
    more = command("merge", *SWEEP, "sweep=true", "merge_sweep.weights=[0.6,0.9,0.3]", "merge_sweep.num_seeds=1")
    assert more.returncode == 0, more.stderr
    [name] = {path.name for path in (artifacts / "merge_sweeps").iterdir()} - before
    counts = read_manifest(artifacts / "merge_sweeps" / name).counts
    assert (counts["points"], counts["points_measured"]) == (5, 1)
    rows = read_jsonl(artifacts / "merge_sweeps" / name / "points.jsonl", MergePoint)
    assert [(row.form, row.weight) for row in rows][2:] == [("merged", 0.3), ("merged", 0.6), ("merged", 0.9)]


def test_a_sweep_of_points_that_are_all_there_opens_no_engine(
    command: Command, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the sweeps above."""
    monkeypatch.setenv("MICOTA_ARTIFACTS", str(artifacts))
    monkeypatch.setattr(merge_sweep, "open_engine", lambda *_, **__: pytest.fail("an engine was opened"))
    main(["merge", *SWEEP, "sweep=true", "merge_sweep.num_seeds=1"])
    counts = [read_manifest(path).counts for path in (artifacts / "merge_sweeps").glob("*dare_ties-??????????")]
    assert [(count["points"], count["points_measured"]) for count in counts if count["points"] == 4] == [(4, 0)]


def test_calibration_decides_the_weight_of_the_merge(command: Command, artifacts: Path) -> None:
    arguments = [*SWEEP, "merge_sweep.num_seeds=1", "merge_sweep.tolerance=0.3", "merge.target_length_ratio=0.7"]
    finished = command("merge", *arguments)
    assert finished.returncode == 0, finished.stderr
    [sweep] = artifacts.glob("merge_sweeps/*-len0.7-*")
    content: dict[str, Any] = json.loads((sweep / "calibration.json").read_text())
    chosen = content["chosen"]
    assert abs(chosen["num_tokens"] / content["after"]["num_tokens"] - 0.7) <= 0.3 * 0.7
    assert chosen in content["curve"]
    [model] = artifacts.glob("models/*-len0.7-*")
    assert json.loads((model / "merge.json").read_text())["recipe"]["weight"] == chosen["weight"]
    assert read_manifest(model).inputs["calibration"]["key"] == read_manifest(sweep).key


def test_a_length_that_no_merge_has_is_an_error(command: Command) -> None:
    arguments = [
        "merge_sweep.num_seeds=1",
        "merge_sweep.num_steps=1",
        "merge_sweep.tolerance=0.001",
        "merge.target_length_ratio=0.05",
    ]
    finished = command("merge", *SWEEP, *arguments)
    assert finished.returncode == 2 and finished.stderr.count("\n") == 1
    assert "no merge within 0%" in finished.stderr and "merge.target_length_ratio" in finished.stderr
