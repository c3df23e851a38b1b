from __future__ import annotations

import pytest

from micota.analysis.gaps import LONG_SHORT, distilled, gaps
from micota.analysis.statistics import PairingError, paired_difference


def suite(rights: str) -> dict[str, dict[str, float]]:
    return {"bench": {str(i): float(right) for i, right in enumerate(rights * 10)}}


SUITES = {
    "small": {"instruct": suite("0110"), "strong": suite("0000"), "short": suite("0111")},
    "large": {"instruct": suite("0110"), "strong": suite("1111"), "short": suite("0111")},
    "base": {"strong": suite("0001")},
}


def test_gaps_are_paired_and_by_student() -> None:
    small, large = gaps(SUITES, LONG_SHORT)
    assert (small.student, small.recipe, small.baseline) == ("small", "strong", "short")
    assert small.difference.value == -0.75 and large.difference.value == 0.25
    plain = paired_difference(SUITES["large"]["strong"], SUITES["large"]["short"])
    assert large.difference.low < plain.low < plain.high < large.difference.high  # for two students
    assert large.difference.is_distinguishable and small.difference.label == "worse"


def test_p_values_are_corrected_for_the_number_of_students() -> None:
    alone = gaps({"large": SUITES["large"]}, distilled("short"))[0].difference
    both = {gap.student: gap.difference for gap in gaps(SUITES, distilled("short"))}
    assert both["large"].p_value == pytest.approx(2 * alone.p_value)
    assert both["large"].value == alone.value == 0.25


def test_students_without_both_recipes_have_no_gap() -> None:
    assert gaps(SUITES, ("micota", "instruct")) == []
    assert [gap.student for gap in gaps(SUITES, distilled("strong"))] == ["small", "large"]


def test_other_problems_are_an_error() -> None:
    with pytest.raises(PairingError, match="problems"):
        gaps({"x": {"strong": suite("01"), "short": {"bench": {"0": 1.0}}}}, LONG_SHORT)
