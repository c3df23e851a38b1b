"""Relative improvements, as MiCoTA prints them."""

from __future__ import annotations

import numpy as np
import pytest

from micota.analysis.relative import relative_improvement
from micota.analysis.statistics import PairingError

Suite = dict[str, dict[str, float]]


def suite(generator: np.random.Generator, share: float, shared: np.ndarray) -> Suite:
    rights = (0.5 * generator.random(400) + 0.5 * shared) < share
    return {"a": {str(index): float(right) for index, right in enumerate(rights)}}


def test_the_ratio_of_two_averages() -> None:
    first = {"a": {"p": 1.0, "q": 1.0}, "b": {"p": 0.0, "q": 1.0}}
    second = {"a": {"p": 1.0, "q": 0.0}, "b": {"p": 0.0, "q": 1.0}}
    found = relative_improvement(first, second)
    assert found is not None and found.value == pytest.approx(0.75 / 0.5 - 1)
    assert found.low < found.value < found.high
    same = relative_improvement(first, first)
    assert same is not None and (same.value, same.low, same.high) == (0, 0, 0)


def test_the_papers_own_numbers() -> None:
    """Section 1: 9.98 % and 35.6 % for the 3B student."""
    averages = [43.29, 39.36, 31.92]
    suites = [{"a": {"p": average}} for average in averages]
    found = [relative_improvement(suites[0], other) for other in suites[1:]]
    assert [100 * one.value for one in found if one is not None] == pytest.approx([9.98, 35.6], abs=0.03)


def test_the_interval_covers_the_true_ratio() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        shared = generator.random(400)
        found = relative_improvement(suite(generator, 0.6, shared), suite(generator, 0.5, shared))
        # P(U/2 + V/2 < s) is 1 - 2 (1 - s)^2 for s above 1/2: 0.68 and 0.5.
        covered += found is not None and found.low <= 0.68 / 0.5 - 1 <= found.high
    assert 0.92 <= covered / 300 <= 0.98


def test_nothing_to_compare_with() -> None:
    assert relative_improvement({"a": {"p": 1.0}}, {"a": {"p": 0.0}}) is None
    with pytest.raises(PairingError):
        relative_improvement({"a": {"p": 1.0}}, {"a": {"q": 1.0}})
