"""Where gaps cross 0: on curves whose crossing is known."""

import math

import pytest

from micota.analysis.crossing import crossing
from micota.analysis.statistics import PairingError, Suite


def suite(right: int, num: int = 200) -> Suite:
    """A benchmark whose first ``right`` problems are solved."""
    return {"a": {f"p{index}": float(index < right) for index in range(num)}}


def gap(points: int) -> tuple[Suite, Suite]:
    return suite(100 + points), suite(100)


def test_a_gap_that_rises_through_zero() -> None:
    found = crossing({1.0: gap(-40), 4.0: gap(40), 16.0: gap(60)})
    assert found.size == pytest.approx(2.0), "half way over the logarithm"
    assert found.rises and found.share == 1.0
    assert 1.0 < found.low < 2.0 < found.high < 4.0


def test_the_last_crossing_counts() -> None:
    found = crossing({1.0: gap(30), 4.0: gap(-30), 16.0: gap(-30), 64.0: gap(30)})
    assert found.size == pytest.approx(32.0) and found.rises


def test_no_crossing() -> None:
    found = crossing({1.0: gap(-40), 4.0: gap(-60)})
    assert found.size is None and found.share == 0.0 and not found.rises and math.isnan(found.low)


def test_a_gap_near_zero_crosses_in_some_resamples() -> None:
    shifted = {"a": {f"p{index}": float(10 <= index < 112) for index in range(200)}}
    found = crossing({1.0: gap(-40), 4.0: (suite(100), shifted)})  # 10 problems gained, 12 lost
    assert found.size is None and not found.rises
    assert 0.1 < found.share < 0.5 and 1.0 < found.low < found.high <= 4.0


def test_other_problems_are_refused() -> None:
    with pytest.raises(PairingError):
        crossing({1.0: gap(3), 2.0: (suite(3, num=10), suite(3, num=10))})
