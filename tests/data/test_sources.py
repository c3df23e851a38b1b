from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from micota.config import SourceConfig
from micota.data.sources import load_labels, load_problems, model_folder
from micota.errors import SourceError


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    return str(path)


def test_columns_and_answers_after_a_mark(tmp_path: Path) -> None:
    path = write(tmp_path, '{"q": "1+1", "a": "so #### 2"}\n{"q": "2+2", "a": ["#### 4"]}\n')
    rows = load_problems(SourceConfig(path=path, problem_column="q", answer_column="a", answer_after="####"))
    assert [(row.id, row.problem, row.answer) for row in rows] == [("0", "1+1", "2"), ("1", "2+2", "4")]


@pytest.mark.parametrize(("text", "fields", "message"), [
    ('{"problem": "p"}\n', {}, "rows.jsonl:1: answer_column=answer: there is no such column; it has problem"),
    ('{"problem": "p", "answer": " "}\n', {}, "rows.jsonl:1: answer=' '; accepted: a gold answer"),
    ('{"problem": "p", "answer": "1"}\n', {"num_rows": 2}, "has 1 rows; num_rows is 2"),
    ('{"problem": "p", "answer": "1", "id": 1}\n' * 2, {"id_column": "id"},
     ":2: the id '1' is that of .*:1, too; ids must be unique"),
    ("", {}, "has no rows"),
    ('{"problem": "p", "answer": "1"}\n{', {}, "rows.jsonl:2: not valid JSON"),
    ("[]\n", {}, "rows.jsonl:1: expected a JSON object, not list"),
    ('{"problem": "p", "answer": null}\n', {}, "rows.jsonl:1: answer='None'; accepted: a gold answer"),
    ('{"problem": "p", "answer": null, "solution": "5"}\n', {}, "rows.jsonl:1: answer='None'"),
    ('{"problem": "p", "answer": NaN}\n', {}, "rows.jsonl:1: answer='nan'"),
    ('{"text": "p", "answer": "1"}\n', {}, "problem_column=problem: there is no such column; it has answer, text"),
    ('{"problem": "p", "answer": "1"}\n', {"id_column": "nr"}, "id_column=nr: there is no such column"),
    ('{"problem": 3, "answer": "1"}\n', {}, "rows.jsonl:1: problem=3; accepted: the text of a problem"),
    ('{"problem": "p", "solution": "so\\nit is 3"}\n', {}, r":1: there is no .*boxed.* in solution="),
])  # fmt: skip
def test_bad_rows_are_one_clear_error(tmp_path: Path, text: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        load_problems(SourceConfig(path=write(tmp_path, text), **fields))


@pytest.mark.parametrize(("row", "problem", "answer"), [
    ({"question": "p", "answer": 27.0}, "p", "27.0"),
    ({"prompt": "p", "gold": "1"}, "p", "1"),
    ({"problem": "p", "final_answer": ["x"]}, "p", "x"),
    ({"problem": "p", "solution": "so \\boxed{3} or\n\\boxed{4}"}, "p", "4"),
    ({"problem": "p", "solution": "5"}, "p", "5"),
    ({"question": "p", "answer": "2+2=<<2+2=4>>4\n#### 4"}, "p", "4"),
])  # fmt: skip
def test_usual_columns_need_no_setting(tmp_path: Path, row: dict[str, object], problem: str, answer: str) -> None:
    [read] = load_problems(SourceConfig(path=write(tmp_path, json.dumps(row))))
    assert (read.id, read.problem, read.answer) == ("0", problem, answer)


def test_what_is_bundled() -> None:
    assert Path(model_folder("bundled:teacher"), "model.safetensors").exists()
    assert model_folder("Qwen/Qwen2.5-7B-Instruct") == "Qwen/Qwen2.5-7B-Instruct"
    with pytest.raises(SourceError, match=r"'bundled:nobody' is not bundled; accepted: .*bundled:student.*bundled:ta"):
        model_folder("bundled:nobody")
    assert len(load_problems(SourceConfig(path="bundled:train.jsonl", id_column="id", num_rows=1600))) == 1600


def test_types_lists_units_and_tolerances_come_from_columns(tmp_path: Path) -> None:
    rows = [
        '{"problem": "p", "answer": "1", "meta": {"kind": "Numerical", "many": false, "unit": "cm", "error": "1e-1"}}',
        '{"problem": "q", "answer": "1,2", "meta": {"kind": "Numerical", "many": true, "unit": null, "error": null}}',
    ]
    source = SourceConfig(
        path=write(tmp_path, "\n".join(rows)), type_column="meta.kind", types={"Numerical": "number"},
        list_column="meta.many", unit_column="meta.unit", tolerance_column="meta.error",
    )  # fmt: skip
    first, second = load_problems(source)
    assert (first.answer_type, first.unit, first.tolerance) == ("number", "cm", "1e-1")
    assert (second.answer_type, second.unit, second.tolerance) == ("list", None, None)


def test_an_unknown_type_is_one_clear_error(tmp_path: Path) -> None:
    path = write(tmp_path, '{"problem": "p", "answer": "1", "kind": "Odd"}\n')
    with pytest.raises(SourceError, match=r"rows.jsonl:1: kind='Odd'; accepted: a word of types, which has Even"):
        load_problems(SourceConfig(path=path, type_column="kind", types={"Even": "number"}))


def test_golds_in_boxes(tmp_path: Path) -> None:
    rows = [
        {"problem": "p", "solution": r"first \boxed{1}, then $\boxed{\frac{1}{2}}$."},
        {"problem": "q", "solution": r"so $\boxed 3$"},
    ]
    path = write(tmp_path, "\n".join(json.dumps(row) for row in rows))
    source = SourceConfig(path=path, answer_column="solution", answer_boxed=True)
    assert [row.answer for row in load_problems(source)] == [r"\frac{1}{2}", "3"]
    with pytest.raises(SourceError, match=r":1: there is no \\boxed\{\} in solution='4'"):
        load_problems(replace(source, path=write(tmp_path, '{"problem": "p", "solution": "4"}\n')))


def test_several_configurations_of_a_hub_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: str, subset: str, **settings: object) -> list[dict[str, str]]:
        return [{"problem": subset, "answer": "1"}]

    errors = SimpleNamespace(DatasetsError=OSError)
    # The library takes seconds to import.
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load, exceptions=errors))  # type: ignore[arg-type]
    rows = load_problems(SourceConfig(path="EleutherAI/hendrycks_math", subset="algebra+geometry", num_rows=2))
    assert [(row.id, row.problem) for row in rows] == [("0", "algebra"), ("1", "geometry")]


QUESTION = {"id": "q1", "problem": "Which?", "right": "gold", "w1": "red", "w2": "blue", "choices": ["gold", "red"]}


def options_source(path: Path, rows: list[dict[str, Any]], **fields: Any) -> SourceConfig:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return SourceConfig(**{"path": str(path), "id_column": "id", "answer_column": "right", **fields})


def test_options_are_shown_in_an_order_of_the_problem(tmp_path: Path) -> None:
    rows = [QUESTION | {"id": f"q{index}"} for index in range(40)]
    columns = {"option_columns": ["right", "w1", "w2"], "answer_type": "text"}
    problems = load_problems(options_source(tmp_path / "rows.jsonl", rows, **columns))
    for problem in problems:
        lines = problem.problem.splitlines()
        assert lines[:2] == ["Which?", ""] and f"({problem.answer}) gold" in lines
        assert sorted(line[4:] for line in lines[2:]) == ["blue", "gold", "red"]
    assert {problem.answer for problem in problems} == {"A", "B", "C"}
    again = load_problems(options_source(tmp_path / "again.jsonl", rows[::-1], **columns))
    assert {p.id: p.problem for p in again} == {p.id: p.problem for p in problems}  # whatever the order of rows


@pytest.mark.parametrize("right", ["gold", "A", 0])
def test_the_right_option_is_a_text_a_letter_or_a_number(tmp_path: Path, right: Any) -> None:
    row = QUESTION | {"right": right}
    [problem] = load_problems(options_source(tmp_path / "rows.jsonl", [row], option_columns=["choices"]))
    assert f"({problem.answer}) gold" in problem.problem


@pytest.mark.parametrize(("change", "text"), [
    ({"right": "green"}, "answer 'green'; accepted: the text, letter or number"),
    ({"w1": ""}, "option_columns=['w1', 'w2'] hold 2 options, as ['', 'blue']"),
])  # fmt: skip
def test_options_that_cannot_be_read(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    columns = ["w1", "w2"] if "w1" in change else ["choices"]
    with pytest.raises(SourceError, match=re.escape(text)):
        load_problems(options_source(tmp_path / "rows.jsonl", [QUESTION | change], option_columns=columns))


def test_labels_of_problems(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "problem": "?", "right": "1", "level": 3},
        {"id": "b", "problem": "?", "right": "1", "level": ""},
    ]
    source = options_source(tmp_path / "rows.jsonl", rows)
    assert load_labels(source, "level", "level_column") == {"a": "3"}
    with pytest.raises(SourceError, match="subject_column=subject: there is no such column"):
        load_labels(source, "subject", "subject_column")
