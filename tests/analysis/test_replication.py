"""Whether a published number is inside the interval, outside, or cannot be told."""

from __future__ import annotations

import pytest

from micota.analysis.intervals import Estimate
from micota.analysis.replication import Cell


def cell(published: float, low: float, high: float, *others: float, num_problems: int = 100) -> Cell:
    estimate = Estimate((low + high) / 200, low / 100, high / 100)
    return Cell(
        recipe="a",
        benchmark="b",
        published=published,
        others=others,
        estimate=estimate,
        num_problems=num_problems,
        graded_by="paper_rule",
        source="table",
    )


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (cell(56.2, 55, 58, 61.0, 64.7), "inside"),
        (cell(56.2, 50, 55, 61.0), "outside"),
        (cell(37.5, 23, 53, 37.5, 45.0), "cannot tell"),  # AMC: 40 problems
        (cell(37.5, 23, 44, 37.5, 45.0), "inside"),  # one other model is told apart
        (cell(55.0, 50, 55, 61.0), "inside"),
        (cell(55.04, 50, 55, 61.0), "inside"),  # as printed, with one decimal
        (cell(55.2, 50, 55, 61.0), "outside"),
        (cell(40.0, 36, 44), "inside"),  # alone in its column
        (cell(40.0, 30, 50), "cannot tell"),
        (cell(3.3, 0, 10, 3.33), "inside"),  # the same number is no other
    ],
)
def test_verdicts(measured: Cell, verdict: str) -> None:
    assert measured.verdict == verdict


def test_the_number_of_problems_that_would_do() -> None:
    # A half width of 15 points at 40 problems: 7.5 points to the nearest other number need four times as many.
    assert cell(37.5, 22.5, 52.5, 37.5, 45.0, num_problems=40).num_needed == 160
