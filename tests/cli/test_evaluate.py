"""evaluate.py on the toy setting: any model, stored completions graded again, clear errors before a model is
loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import thorough_after

from micota.data.sources import model_folder

RunCommand = Callable[..., subprocess.CompletedProcess[str]]
TINY = ["experiment=tiny", "tracker=none", "bench=[tiny_easy]", "bench.easy.limit=20", "engine.batch_size=20"]


def folders(tmp_path: Path, kind: str) -> list[Path]:
    return sorted((tmp_path / "artifacts" / kind).glob("*"))


def test_any_model_is_evaluated_and_graded_again_without_it(run_command: RunCommand, tmp_path: Path) -> None:
    model = shutil.copytree(model_folder("bundled:teacher"), tmp_path / "mine")
    first = run_command("evaluate", *TINY, f"model.path={model}", "num_samples=2", "temperature=0.5")
    assert first.returncode == 0, first.stderr
    assert "mine: avg@2 in %" in first.stdout and "by paper rule" in first.stdout
    (scores,) = folders(tmp_path, "scores")
    assert scores.name.startswith("mine@easy-")
    summary = json.loads((scores / "scores.json").read_text())
    assert summary["num_problems"] == 20 and summary["num_samples"] == 2
    rows = [json.loads(line) for line in (scores / "scores.jsonl").read_text().splitlines()]
    assert len(rows) == 40 and rows[0]["graders"].keys() == {"typed", "paper_rule"}
    assert (scores / "disagreements.md").read_text().startswith("# Disagreements")
    (completions,) = folders(tmp_path, "completions")
    drawn = (completions / "completions.jsonl").read_bytes()

    arguments = [f"model.path={model}", "num_samples=2", "temperature=0.5"]
    missing = run_command("evaluate", *TINY, *arguments[:2], "temperature=0.6", "regrade=true")
    assert missing.returncode == 2 and "regrade=true needs completions mine@easy" in missing.stderr
    assert "num_samples=2 temperature=0.6" in missing.stderr.rpartition("python evaluate.py")[2]
    before = (scores / "manifest.json").stat().st_mtime_ns
    again = run_command("evaluate", *TINY, *arguments, "regrade=true")
    assert again.returncode == 0, again.stderr
    assert (completions / "completions.jsonl").read_bytes() == drawn
    assert (scores / "manifest.json").stat().st_mtime_ns > before
    other = run_command("evaluate", *TINY, *arguments, "evaluation.grader=paper_rule")
    assert other.returncode == 0 and len(folders(tmp_path, "scores")) == 2
    assert len(folders(tmp_path, "completions")) == 1


ROW = '{"id": "1", "problem": "p", "answer": "ANSWER"}' + "\n"


@pytest.mark.parametrize(("rows", "overrides", "message"), thorough_after(2, [
    (ROW.replace("ANSWER", "no idea"), ["answer_type=number", "id_column=id"], "problem 1: answer 'no idea'"),
    (ROW.replace("ANSWER", "1.5"), ["answer_type=integer"], "expected an integer"),
    (ROW.replace("ANSWER", "\\\\frac{1}{"), ["answer_type=expression"], "its braces do not match"),
    (ROW, ["num_rows=2"], "has 1 rows; num_rows is 2"),
    (ROW.replace("answer", "mark"), [], ":1: answer_column=answer: there is no such column; it has id, mark"),
    (ROW + '{"id"\n', [], "mine.jsonl:2: not valid JSON"),
    (ROW, ["type_column=problem", "+types.Even=number"], ":1: problem='p'; accepted: a word of types"),
]))  # fmt: skip
def test_a_bad_benchmark_is_one_error_before_any_model_is_loaded(
    run_command: RunCommand, tmp_path: Path, rows: str, overrides: list[str], message: str
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(rows)
    overridden = [f"{'+' * (item[0] == '+')}bench.easy.{item.lstrip('+')}" for item in overrides]
    bench = ["bench.easy.num_rows=null", f"bench.easy.path={path}", *overridden]
    model = tmp_path / "no-weights-here"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").touch()  # which nothing can read
    done = run_command("evaluate", *TINY, *bench, f"model.path={model}")
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert folders(tmp_path, "completions") == []


@pytest.mark.parametrize(("overrides", "message"), [
    (["bench=nothing"], "bench=nothing: no such option"),
    (["evaluation.grader=judge"], "evaluation: a judge needs both judge.url and judge.model"),
    (["num_samples=4"], "num_samples=4 with temperature=0 repeats one answer"),
    (["model.path=/nowhere"], "model.path='/nowhere': there is no such file or folder"),
])  # fmt: skip
def test_bad_settings(run_command: RunCommand, overrides: list[str], message: str) -> None:
    done = run_command("evaluate", "experiment=tiny", *overrides)
    assert done.returncode == 2 and message in done.stderr, done.stderr
