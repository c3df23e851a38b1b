"""The steps of the authors' judge pipeline."""

from __future__ import annotations

from dataclasses import replace

from synthetic_store import score

from micota.analysis.judging import accepted, is_judged, judge_steps
from micota.records import Score


def graded(rule: bool | None, judge: bool | None) -> Score:
    return replace(score("p", 0, False), graders={"paper_rule": rule, "judge": judge, "typed": None})


ROWS = [
    graded(True, False),  # the judge does not see what the rule accepts
    graded(False, True),
    graded(False, False),
    graded(False, None),  # a reply that is neither True nor False is wrong
    graded(None, True),  # without a box the judge is not asked
]


def test_each_step_is_counted() -> None:
    steps = judge_steps(ROWS, rule_alone=False)
    assert (steps.num_answers, steps.num_boxed, steps.num_by_rule, steps.num_by_judge, steps.num_undecided) == (
        5, 4, 1, 1, 1
    )  # fmt: skip
    assert (steps.by_rule, steps.total) == (0.2, 0.4)
    assert [accepted(row, rule_alone=False) for row in ROWS] == [True, True, False, False, False]


def test_gsm8k_has_the_rule_alone() -> None:
    steps = judge_steps(ROWS, rule_alone=True)
    assert (steps.num_by_judge, steps.num_undecided, steps.total) == (0, 0, 0.2)
    assert [accepted(row, rule_alone=True) for row in ROWS] == [True, False, False, False, False]


def test_without_a_judge_there_are_no_steps() -> None:
    assert is_judged(ROWS) and not is_judged([score("p", 0, True)])
