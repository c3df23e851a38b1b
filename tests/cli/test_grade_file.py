"""``evaluate.py grade=FILE.jsonl``, as a user runs it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunCommand = Callable[..., subprocess.CompletedProcess[str]]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_a_file_is_graded_beside_itself(run_command: RunCommand, tmp_path: Path) -> None:
    rows = [
        {"id": 1, "completion": r"so \boxed{\frac{2}{4}}", "answer": "0.5"},
        {"id": "b", "completion": "it is 7", "answer": 8},
        {"id": "c", "completion": "well ...", "answer": "8", "finish_reason": "length"},
        {"id": "d", "completion": "well ...", "answer": "8"},
        {"id": "e", "completion": r"\boxed{\frac{\sqrt{8}}{}}", "answer": r"2\sqrt{2}"},
        {"id": "f", "completion": r"\boxed{2, 1}", "answer": "1,2", "answer_type": "list"},
        {"id": "g", "completion": "\ud800 \\boxed{\ud800}", "answer": "1"},
    ]
    path = write(tmp_path / "outputs.jsonl", rows)
    done = run_command("evaluate", f"grade={path}")
    assert done.returncode == 0, done.stderr
    scored = [json.loads(line) for line in (tmp_path / "outputs.scores.jsonl").read_text().splitlines()]
    assert [row["id"] for row in scored] == [1, "b", "c", "d", "e", "f", "g"]
    assert [row["correct"] for row in scored[:4]] == [True, False, None, None]
    assert [row["reason"] for row in scored[2:4]] == ["truncated", "no_answer"]
    assert scored[5]["correct"] is True and scored[5]["graders"] == {"typed": True, "paper_rule": False}
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["rows"] == 7 and sum(summary["outcomes"].values()) == 7
    assert summary["outcomes"]["truncated"] == summary["outcomes"]["no_answer"] == 1
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize(("rows", "message"), [
    ([{"id": 1, "completion": "x", "answer": "1"}, "{"], "outputs.jsonl:2: not valid JSON"),
    ([{"id": 1, "completion": "x"}], "outputs.jsonl:1: no 'answer'"),
    ([{"id": 1, "completion": 5, "answer": "1"}], "outputs.jsonl:1: completion is int; accepted: a string"),
    ([{"id": 1, "completion": "x", "answer": None}], "outputs.jsonl:1: answer is NoneType"),
    ([{"id": 1, "completion": "x", "answer": "1", "answer_type": "colour"}], "answer_type='colour'; accepted: auto"),
    ([{"id": 1, "completion": "x", "answer": "1.5", "answer_type": "integer"}], "answer '1.5' is not of type integer"),
    ([{"id": 1, "completion": "x", "answer": "1"}] * 2, "outputs.jsonl:2: id '1' stands on line 1 too"),
    ([{"id": 1, "completion": "x", "answer": float("nan")}], "answer is nan; accepted: a string or a finite number"),
    ([{"id": None, "completion": "x", "answer": "1"}], "id is NoneType; accepted: a string or an integer"),
    ([], "has no rows"),
    ([{"id": 1, "completion": "x", "answer": float("nan")}], "outputs.jsonl:1: answer is nan; accepted: a string or a"),
    (['{"id": 1, "completion": "x", "answer": 1e400}'], "outputs.jsonl:1: answer is inf; accepted: a string or a"),
    ([{"id": 1, "completion": "x", "answer": ""}, {"id": 2, "completion": "x", "answer": "5"},
      {"id": 3, "completion": "x", "answer": "1.5", "answer_type": "integer"}],
     "2 bad rows: {folder}/outputs.jsonl:1: answer '' is empty; {folder}/outputs.jsonl:3: answer '1.5' is not of type"),
])  # fmt: skip
def test_a_bad_file_is_one_clear_error(run_command: RunCommand, tmp_path: Path, rows: list[Any], message: str) -> None:
    path = write(tmp_path / "outputs.jsonl", rows)
    done = run_command("evaluate", f"grade={path}")
    assert (
        done.returncode == 2 and message.format(folder=tmp_path) in done.stderr and len(done.stderr.splitlines()) == 1
    ), done.stderr
    assert not (tmp_path / "outputs.scores.jsonl").exists()


def test_no_file(run_command: RunCommand) -> None:
    done = run_command("evaluate", "grade=nowhere.jsonl")
    assert done.returncode == 2 and "grade='nowhere.jsonl': there is no such file" in done.stderr


@pytest.mark.parametrize("name", ["a=b,c{d}.jsonl", "it's [1] ${x}.jsonl"])
def test_files_as_other_programs_write_them(run_command: RunCommand, tmp_path: Path, name: str) -> None:
    row = '{"id": 1, "completion": "\\\\boxed{5}", "answer": %s}'
    path = tmp_path / name
    path.write_bytes(
        b"\xef\xbb\xbf" + "\r\n".join([row % '"5"', row.replace("1", "2", 1) % '["7", 5]', "", ""]).encode()
    )
    done = run_command("evaluate", f"grade={path}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["outcomes"] == {"correct": 2}
