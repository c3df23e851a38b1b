from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic_store import score

from micota.grading.graders import Graders
from micota.grading.groups import RIGHT, grouped
from micota.records import Problem, Score


def answer(sample: int, prediction: str | None, correct: bool | None = False, problem: str = "p") -> Score:
    return replace(score(problem, sample, True), prediction=prediction, correct=correct, answer="1/2")


PROBLEMS = {name: Problem(id=name, problem="?", answer="1/2") for name in ("p", "q")}


def test_equal_answers_are_one_group(graders: Graders) -> None:
    predictions = ["0.5", r"\frac{1}{2}", "3", "3.0", r"\frac{6}{2}", "7", None]
    rows = [answer(i, text, None if text is None else i < 2) for i, text in enumerate(predictions)]
    rows += [answer(0, "3", problem="q"), answer(1, "7", problem="q")]
    groups = [row.group for row in grouped(rows, PROBLEMS, graders)]
    assert groups == [RIGHT, RIGHT, 1, 1, 1, 2, None, 1, 2]


def test_answers_that_need_the_symbolic_comparison(graders: Graders) -> None:
    rows = [answer(0, r"\sqrt{8}"), answer(1, r"2\sqrt{2}"), answer(2, r"\sqrt{2}")]
    assert [row.group for row in grouped(rows, PROBLEMS, graders)] == [1, 1, 2]


def test_the_papers_rule_has_its_own_equality(graders: Graders) -> None:
    rows = [replace(answer(i, text), grader="paper_rule") for i, text in enumerate(["3", "3.0", "0.5", r"\frac{1}{2}"])]
    assert [row.group for row in grouped(rows, PROBLEMS, graders)] == [1, 2, 3, 3]


def test_one_sample_has_no_group(graders: Graders) -> None:
    assert grouped([answer(0, "3")], PROBLEMS, graders)[0].group is None


@pytest.mark.parametrize("kind", ["integer", "number", "list"])
def test_answers_that_are_not_of_the_type_equal_only_themselves(graders: Graders, kind: str) -> None:
    problems = {"p": Problem(id="p", problem="?", answer="4", answer_type=kind)}
    rows = [answer(0, "about a"), answer(1, "about b"), answer(2, "about a")]
    first, second, third = (row.group for row in grouped(rows, problems, graders))
    assert first == third != second
