from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from micota.analysis.intervals import Estimate, agreeing, bounded_mean, combined, paired_mean, quantile, wilson

Array = NDArray[np.float64]


def test_wilson_against_published_values() -> None:
    # Newcombe (1998), table I: 81/263, 15/148, 0/20 and 1/29, method 3 (score interval, no continuity correction).
    for correct, total, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (1, 29, 0.0061, 0.1718)):
        assert (wilson(correct, total).low, wilson(correct, total).high) == pytest.approx((low, high), abs=1e-4)
    assert (wilson(0, 20).low, wilson(0, 20).high) == (0.0, pytest.approx(0.1611, abs=1e-4))


def test_quantiles_against_tables() -> None:
    assert quantile(0.05) == pytest.approx(1.959964, abs=1e-6)
    assert quantile(0.05, 29) == pytest.approx(2.045230, abs=1e-6)
    assert quantile(0.01, 4) == pytest.approx(4.604095, abs=1e-6)
    assert quantile(0.05, 1e12) == quantile(0.05)


@pytest.mark.parametrize(("right", "total"), [(0, 16), (16, 16), (3, 30), (15, 30), (1299, 1319)])
def test_all_or_nothing_values_have_wilsons_interval(right: int, total: int) -> None:
    estimate, expected = bounded_mean(np.repeat([1.0, 0.0], [right, total - right])), wilson(right, total)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
        (expected.value, expected.low, expected.high), abs=1e-7
    )


def test_no_interval_is_empty_or_leaves_its_range() -> None:
    for count in (1, 2, 5, 30):
        for level in (0.0, 0.25, 0.5, 0.999, 1.0):
            estimate = bounded_mean(np.full(count, level))
            assert 0 <= estimate.low <= level <= estimate.high <= 1 and estimate.high - estimate.low > 0.1
        for level in (-1.0, -0.5, 0.0, 1.0):
            estimate = paired_mean(np.full(count, level))
            assert -1 <= estimate.low <= level <= estimate.high <= 1 and estimate.high - estimate.low > 0.05
    assert paired_mean(np.array([1.0, 1.0, 1.0, 1.0, -1.0])).high == 1.0


def test_intervals_of_both_sides_mirror_each_other() -> None:
    values = np.random.default_rng(0).beta(0.4, 0.9, size=30)
    one, other = bounded_mean(values), bounded_mean(1 - values)
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low))
    deltas = values - 0.2
    one, other = paired_mean(deltas), paired_mean(-deltas)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_an_average_of_benchmarks_that_are_all_right_is_uncertain() -> None:
    perfect = bounded_mean(np.ones(16))
    assert combined([perfect]) == perfect and perfect.low == pytest.approx(wilson(16, 16).low)
    pair = combined([perfect, perfect])
    assert pair.value == pair.high == 1 and pair.low == pytest.approx(1 - (1 - perfect.low) / math.sqrt(2))


def test_a_longer_level_contains_a_shorter_one() -> None:
    values = np.random.default_rng(1).beta(0.4, 0.9, size=30)
    for function, given in ((bounded_mean, values), (paired_mean, values - 0.3)):
        wide, short = function(given, 0.01), function(given, 0.05)
        assert wide.low < short.low < short.high < wide.high


def test_the_test_decides_whether_an_interval_excludes_zero() -> None:
    assert agreeing(Estimate(0.2, 0.01, 0.4), 0.06) == Estimate(0.2, 0.0, 0.4)
    assert agreeing(Estimate(-0.2, -0.4, -0.01), 0.06) == Estimate(-0.2, -0.4, 0.0)
    assert 0 < agreeing(Estimate(0.2, -0.01, 0.4), 0.04).low < 1e-300
    assert -1e-300 < agreeing(Estimate(-0.2, -0.4, 0.01), 0.04).high < 0
    assert agreeing(Estimate(0.2, 0.1, 0.4), 0.01) == Estimate(0.2, 0.1, 0.4)


def covered(
    sample: Callable[[], Array], truth: float, method: Callable[[Array], Estimate], trials: int = 1500
) -> float:
    held = 0
    for _ in range(trials):
        estimate = method(sample())
        held += estimate.low - 1e-9 <= truth <= estimate.high + 1e-9
    return held / trials


@pytest.mark.parametrize(("first", "second", "samples", "k"), [
    (0.4, 0.9, 8, 1), (0.4, 0.9, 64, 1), (0.1, 0.9, 64, 1),
    (1, 1, 8, 4), (1, 1, 64, 32), (2, 2, 16, 8), (0.9, 0.1, 8, 4), (1, 3, 64, 32),
])  # fmt: skip
def test_intervals_of_thirty_problems_hold_the_truth(first: float, second: float, samples: int, k: int) -> None:
    """avg@n (k = 1) and pass@k, problems of beta distributed difficulty; benchmarks/interval_coverage.py has more."""
    generator = np.random.default_rng(2)
    table = np.array([1 - math.comb(samples - c, k) / math.comb(samples, k) for c in range(samples + 1)])
    logs = math.lgamma(second + k) + math.lgamma(first + second) - math.lgamma(second) - math.lgamma(first + second + k)

    def sample() -> Array:
        chances = generator.beta(first, second, size=30)
        return np.asarray(table[generator.binomial(samples, chances)], dtype=float)

    # Two standard errors of a share of 1,500 trials are 1.1 points.
    assert 0.93 <= covered(sample, 1 - math.exp(logs), bounded_mean) <= 0.97


@pytest.mark.parametrize(("share", "difference"), [(0.05, 0.035), (0.1, 0.1), (0.2, 0.06), (0.4, 0.12)])
def test_paired_intervals_of_thirty_problems_hold_the_truth(share: float, difference: float) -> None:
    generator = np.random.default_rng(3)

    def sample() -> Array:
        uniform = generator.random(30)
        return np.where(uniform < (share + difference) / 2, 1.0, np.where(uniform < share, -1.0, 0.0))

    assert covered(sample, difference, paired_mean) >= 0.925
