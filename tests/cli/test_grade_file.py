"""``evaluate.py grade=FILE.jsonl``, as a user runs it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import thorough_after

from micota.cli.grade_file import grade_file
from micota.errors import SourceError

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


@pytest.mark.parametrize(("rows", "message"), thorough_after(2, [
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
     "2 bad rows: {folder}/outputs.jsonl:1: answer '' is empty; accepted: a gold answer; "
     "{folder}/outputs.jsonl:3: answer '1.5' is not of type"),
]))  # fmt: skip
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


def several(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "several.jsonl"
    path.write_text("".join(json.dumps({"answer": "4", **row}) + "\n" for row in rows))
    return path


def test_several_samples_of_one_problem(tmp_path: Path, composed: Any) -> None:
    texts = {
        "a": ["\\boxed{4}", "\\boxed{4.0}", "\\boxed{5}", "none"],
        "b": ["\\boxed{4}", "\\boxed{7}", "\\boxed{7.0}", "\\boxed{7.0}"],
    }
    rows = [
        {"problem_id": name, "sample": sample, "completion": text}
        for name, answers in texts.items()
        for sample, text in enumerate(answers)
    ]  # fmt: skip
    path = several(tmp_path, *rows)
    summary = grade_file(composed("evaluate", f"grade={path}"))
    assert (summary["rows"], summary["num_problems"], summary["num_samples"]) == (8, 2, 4)
    assert summary["accuracy"] == 3 / 8 and summary["low"] < 3 / 8 < summary["high"]
    assert summary["pass_at"]["4"]["value"] == 1 and summary["majority_at"]["4"]["value"] == 0.5
    scored = [json.loads(line) for line in path.with_name("several.scores.jsonl").read_text().splitlines()]
    assert [row.get("group") for row in scored] == [0, 0, 1, None, 0, 1, 1, 1]
    assert scored[1]["problem_id"] == "a" and scored[1]["sample"] == 1


def test_levels_and_subjects_of_rows_have_an_accuracy_each(tmp_path: Path, composed: Any) -> None:
    rows = [
        {"id": number, "completion": f"\\boxed{{{number}}}", "answer": "1", "level": number % 2, "subject": "Algebra"}
        for number in range(4)
    ]
    summary = grade_file(composed("evaluate", f"grade={write(tmp_path / 'outputs.jsonl', rows)}"))
    assert {name: one["value"] for name, one in summary["by_level"].items()} == {"0": 0, "1": 0.5}
    assert summary["by_subject"]["Algebra"]["value"] == 0.25


def test_unit_and_rule_of_a_row(tmp_path: Path, composed: Any) -> None:
    rows = [
        {"id": 1, "completion": "\\boxed{4\\text{ cm}}", "unit": "cm"},
        {"id": 2, "completion": "so 12 and then 4"},
        {"id": 3, "completion": "so 12 and then 4", "rule": "gsm8k"},
    ]
    path = several(tmp_path, *rows)
    grade_file(composed("evaluate", f"grade={path}"))
    scored = [json.loads(line) for line in path.with_name("several.scores.jsonl").read_text().splitlines()]
    assert scored[0]["correct"] is True
    assert [row["graders"]["paper_rule"] for row in scored[1:]] == [None, True]


@pytest.mark.parametrize(("rows", "text"), [
    ([{"problem_id": 1, "sample": 0}, {"problem_id": 1, "sample": 0}], "id '1', sample 0, stands on line 1 too"),
    ([{"problem_id": 1, "sample": -1}], "sample=-1; accepted: a whole number from 0"),
    ([{"id": 1, "rule": "mine"}], "rule='mine'; accepted: hendrycks, zeros, gsm8k"),
    ([{"problem_id": 1}, {"problem_id": 1, "sample": 1, "answer": "5"}], "has the answer '5' here, and '4' before"),
    ([{"problem_id": 1}, {"problem_id": 1, "sample": 1}, {"problem_id": 2}], "problem '2' has 1 samples and others"),
])  # fmt: skip
def test_rows_of_samples_that_do_not_fit(tmp_path: Path, composed: Any, rows: list[dict[str, Any]], text: str) -> None:
    path = several(tmp_path, *[{"completion": "\\boxed{4}", **row} for row in rows])
    with pytest.raises(SourceError, match=re.escape(text)):
        grade_file(composed("evaluate", f"grade={path}"))
