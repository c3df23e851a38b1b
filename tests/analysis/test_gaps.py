from __future__ import annotations

import numpy as np
import pytest

from micota.analysis.gaps import LONG_SHORT, distilled, gap_differences, gaps
from micota.analysis.statistics import PairingError, Suite, paired_difference


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


def halves(first: int, second: int, num_problems: int = 40) -> dict[str, Suite]:
    """Two recipes of a student that solve the first problems, up to a number."""
    return {
        name: {"a": {str(index): float(index < count) for index in range(num_problems)}}
        for name, count in {"strong": first, "short": second}.items()
    }


def test_the_difference_of_two_gaps() -> None:
    suites = {"small": halves(4, 20), "large": halves(30, 26), "same": halves(4, 20)}
    found = gap_differences(suites, LONG_SHORT, [("small", "large"), ("small", "same")])
    assert [(one.first, one.second) for one in found] == [("small", "large"), ("small", "same")]
    assert [one.difference.value for one in found] == pytest.approx([-0.5, 0.0])
    assert found[0].difference.high < 0 and found[0].difference.label == "worse"
    assert found[1].difference.low <= 0 <= found[1].difference.high
    assert found[1].difference.label == "not distinguishable"


def test_the_interval_of_a_difference_of_gaps_covers_it() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        suites = {
            student: {
                recipe: {"a": {str(i): float(right) for i, right in enumerate(generator.random(200) < share)}}
                for recipe, share in shares.items()
            }
            for student, shares in {"one": {"strong": 0.3, "short": 0.5}, "two": {"strong": 0.6, "short": 0.5}}.items()
        }
        [found] = gap_differences(suites, LONG_SHORT, [("one", "two")])
        covered += found.difference.low <= -0.3 <= found.difference.high
    assert 0.91 <= covered / 200 <= 0.99
