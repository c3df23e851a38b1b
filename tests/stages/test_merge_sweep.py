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
from micota.stages import sweep_runner

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
    monkeypatch.setattr(sweep_runner, "open_engine", lambda *_, **__: pytest.fail("an engine was opened"))
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


FEW = [*SMALL, "merge_sweep.num_problems=12", "merge_sweep.weights=[0.3,0.6]", "merge_sweep.num_steps=1"]


def curve(sweep: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((sweep / "calibration.json").read_text())
    return content


def test_the_student_chooses_the_merge_whose_right_answers_are_most_likely(command: Command, artifacts: Path) -> None:
    """The bits are those that the ordinary stages measure on data of the same answers."""
    finished = command("merge", *FEW, "merge.target=student_bpc", "merge_sweep.accuracy_loss=1")
    assert finished.returncode == 0, finished.stderr
    [sweep] = artifacts.glob("merge_sweeps/*-student_bpc-*")
    content = curve(sweep)
    assert [reading["weight"] for reading in content["curve"]] == [0.3, 0.45, 0.6]
    assert content["chosen"] == min(content["curve"], key=lambda reading: reading["value"])
    for reading in content["curve"]:
        [bpc] = artifacts.glob(f"bpc/*-w{reading['weight']:g}-s0@tiny_student-*")
        assert read_manifest(bpc).metrics["bits_per_byte"] == reading["value"]
        [data] = [
            path for path in artifacts.glob("data/*") if path.name.endswith(read_manifest(bpc).inputs["data"]["key"])
        ]
        assert read_manifest(data).counts["kept"] == round(12 * reading["accuracy"]), "right answers alone"
    table = finished.stdout
    assert "student BPC" in table and "before SFT" in table and "95 %" in table and ">" in table
    [model] = artifacts.glob("models/*-student_bpc-*")
    assert json.loads((model / "merge.json").read_text())["recipe"]["weight"] == content["chosen"]["weight"]


@pytest.mark.slow
def test_the_student_chooses_the_merge_that_it_learns_most_from(command: Command, artifacts: Path) -> None:
    """One weight, of which the answers are there; the student answers problems that it was not tuned on."""
    more = ["merge.target=student_gain", "merge_sweep.student_steps=2", "merge_sweep.num_held_out=8"]
    finished = command("merge", *FEW, *more, "merge_sweep.weights=[0.3]")
    assert finished.returncode == 0, finished.stderr
    [sweep] = artifacts.glob("merge_sweeps/*-student_gain-*")
    [scores] = artifacts.glob("scores/tiny_student+*@held_out-*")
    assert curve(sweep)["chosen"]["value"] == read_manifest(scores).metrics["accuracy"]
    assert read_manifest(scores).config["problems"]["skip"] == 12 and read_manifest(scores).counts["scores"] == 8
    [tuned] = artifacts.glob("models/tiny_student+*-s0-*")
    assert read_manifest(tuned).counts["steps"] == 2
    refused = command("merge", *FEW, *more, "merge_sweep.num_held_out=5000")
    assert refused.returncode == 2 and "bundled:train.jsonl has 1600 problems, and" in refused.stderr


@pytest.mark.slow
def test_layers_get_weights_by_what_sft_changed_and_the_written_merge_has_them(
    command: Command, artifacts: Path
) -> None:
    finished = command("merge", *FEW, "merge.target=accuracy", "merge.search=activations", "merge_sweep.weights=[0.3]")
    assert finished.returncode == 0, finished.stderr
    [sweep] = artifacts.glob("merge_sweeps/*-activations-accuracy-*")
    chosen = curve(sweep)["chosen"]
    by_layer = {item.get("filter"): item["value"] for item in chosen["by_layer"]}
    assert by_layer.pop(None) == 0.3 and sum(by_layer.values()) / len(by_layer) == pytest.approx(0.3, abs=1e-4)
    shared = json.loads((sweep / "activations.json").read_text())["values"]
    assert sorted(by_layer, key=by_layer.__getitem__) == sorted(shared, key=shared.__getitem__, reverse=True)
    [model] = artifacts.glob("models/*-activations-accuracy-*")
    assert json.loads((model / "merge.json").read_text())["recipe"]["weight"] == chosen["by_layer"]


def test_evolution_that_is_killed_goes_on_with_the_same_merges(
    command: Command, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its points are found by their keys, as no generation is written."""
    monkeypatch.setenv("MICOTA_ARTIFACTS", str(artifacts))
    call = ["merge", *FEW, "sweep=true", "merge.target=accuracy", "merge.search=cma_es", "merge_sweep.num_points=9"]
    measured = []
    real = sweep_runner.Evaluator.answers

    def killed(evaluator: Any) -> Any:
        measured.append(1)
        if len(measured) == 7:
            raise KeyboardInterrupt
        return real(evaluator)

    monkeypatch.setattr(sweep_runner.Evaluator, "answers", killed)
    before = {*artifacts.glob("merge_points/*")}
    with pytest.raises(SystemExit):
        main(call)
    main(call)
    [sweep] = artifacts.glob("merge_sweeps/*-cma_es-accuracy-??????????")
    points = read_jsonl(sweep / "points.jsonl", MergePoint)
    assert [point.form for point in points].count("merged") == 9
    new = {*artifacts.glob("merge_points/*")} - before
    assert len(measured) == len(new) + 1 >= 9 + 1, "the killed one is measured again, and no other"
    first = points[[point.weight for point in points].index(0.45)]
    assert first.by_layer is not None and {item["value"] for item in first.by_layer} == {0.45}, "plain interpolation"
    assert len({repr(point.by_layer) for point in points if point.by_layer}) == 9
