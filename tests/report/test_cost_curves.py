"""Accuracy against cost over budgets: a line per recipe, over the cases that differ in their budget alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from micota.analysis.intervals import Estimate
from micota.report.case_figures import CASE_CAPTIONS
from micota.report.collect import Summary
from micota.report.cost_curves import curve_figures, curves
from micota.report.rows import Row
from micota.report.spent import Spent

ROW = Row(
    name="micota", by_benchmark={}, average=Estimate(0.5, 0.4, 0.6), seed_sd=None, num_tokens=1.0,
    tokens={"correct": [1]}, bits_per_byte=None, data_tokens=None, difference=None, discordance={},
)  # fmt: skip


def case(student: str, budget: float, right: float) -> Summary:
    rows = [replace(ROW, name="instruct", average=Estimate(0.3, 0.2, 0.4))]
    rows += [replace(ROW, name=name, average=Estimate(right, right - 0.1, right + 0.1)) for name in ("short", "micota")]
    return Summary(
        name="ways", student=student, student_path=student, labels={"student": student, "budget": f"{budget:.0e}"},
        seeds=[0], benchmarks=[], recipes=rows, curve={}, teacher=None, max_flops=budget,
        spent={name: Spent(training=1.01 * budget, before=1e12) for name in ("short", "micota")},
    )  # fmt: skip


def test_each_recipe_has_a_line_over_budgets() -> None:
    cases = [case("a", 1e11, 0.6), case("a", 1e10, 0.4)]
    assert next(iter(curve_figures(cases))) == next(iter(CASE_CAPTIONS)) == "ways_by_budget"
    before, short, micota = curve_figures(cases)["ways_by_budget"].data
    assert (before.name, before.mode, list(before.x)) == ("instruct", "lines", [1e10, 1e11])
    assert (micota.name, list(micota.x), list(micota.y)) == ("micota", [1.01e10, 1.01e11], [40, 60])
    assert [point["case"] for point in short.customdata] == [1, 0], "a click opens the case of the point"
    assert list(micota.error_y.array) == pytest.approx([10, 10])


def test_students_have_lines_of_their_own() -> None:
    cases = [case(student, budget, 0.5) for student in ("a", "b") for budget in (1e10, 1e11)]
    assert {label: [index for index, _ in curve] for label, curve in curves(cases).items()} == {
        "a": [0, 1],
        "b": [2, 3],
    }
    names = [trace.name for trace in curve_figures(cases)["ways_by_budget"].data]
    assert names == [f"{student}, {name}" for student in ("a", "b") for name in ("instruct", "short", "micota")]


def test_cases_of_one_budget_or_of_none_have_no_such_figure() -> None:
    assert curves([case("a", 1e10, 0.4), case("b", 1e10, 0.4)]) == {}
    assert curves([replace(case("a", budget, 0.4), max_flops=None) for budget in (1e10, 1e11)]) == {}
    assert curves([case("a", 1e10, 0.4), case("b", 1e11, 0.4)]) == {}, "two students at one budget each are no curve"
