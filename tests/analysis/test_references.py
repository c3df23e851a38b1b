"""The statistics against those of scipy and statsmodels, and the used functions of scipy against plain formulas."""

from __future__ import annotations

import gc
import math
from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from micota.analysis.intervals import wilson
from micota.analysis.learnability import MAX_PERMUTATIONS, Trial, correlation, pearson, spearman
from micota.analysis.statistics import holm, mcnemar, paired_difference

EXACT = {"rel": 1e-12, "abs": 1e-12}
TOTALS = (1, 2, 3, 7, 9, 30, 40, 148, 500, 1319, 100_000, 1_000_000)


def answers(values: list[int]) -> dict[str, float]:
    return {str(index): float(value) for index, value in enumerate(values)}


def pairs(generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Two columns; every other time with ties."""
    x, y = generator.random(count), generator.random(count)
    return (np.round(x, 1), np.round(3 * y)) if generator.random() < 0.5 else (x, y)


@pytest.mark.parametrize("total", TOTALS)
def test_wilson_is_that_of_scipy_and_statsmodels(total: int) -> None:
    for correct in {0, 1, total // 3, total // 2, total - 1, total}:
        result = wilson(correct, total)
        expected = stats.binomtest(correct, total).proportion_ci(method="wilson")
        assert (result.low, result.high) == pytest.approx((expected.low, expected.high), **EXACT)
        assert (result.low, result.high) == pytest.approx(proportion_confint(correct, total, method="wilson"), **EXACT)


def test_wilson_at_an_effective_number_of_problems_is_that_of_statsmodels() -> None:
    generator = np.random.default_rng(0)
    for total in generator.uniform(0.5, 2000, size=200):  # scipy takes whole numbers only
        result = wilson(correct := total * generator.random(), total)
        assert (result.low, result.high) == pytest.approx(proportion_confint(correct, total, method="wilson"), **EXACT)


def test_an_interval_ends_where_accuracies_end() -> None:
    for total in range(1, 200):  # the formula alone misses 0 and 1 by a rounding error at some of them
        assert wilson(0, total).low == 0 and wilson(total, total).high == 1


@pytest.mark.parametrize(("better", "worse"), [
    *product((0, 1, 2, 5, 9, 40), (1, 3, 9, 41)), (1200, 1000), (660, 659), (10, 600),
])  # fmt: skip
def test_mcnemar_is_the_exact_binomial_of_whole_numbers(better: int, worse: int) -> None:
    result = mcnemar(answers([1] * better + [0] * worse), answers([0] * better + [1] * worse)).p_value
    tail = sum(math.comb(better + worse, i) for i in range(min(better, worse) + 1))
    assert result == pytest.approx(min(1.0, 2 * tail / 2 ** (better + worse)), rel=1e-12)
    expected = statsmodels_mcnemar([[0, better], [worse, 0]], exact=True).pvalue
    assert result == pytest.approx(expected, rel=1e-10)


def test_holm_is_that_of_statsmodels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", lambda: 0)  # statsmodels calls it each time: a second with all that is imported
    generator = np.random.default_rng(0)
    for _ in range(20):
        p_values = generator.random(generator.integers(1, 12)) * generator.choice([1, 0.1, 0.001])
        p_values = np.round(p_values, 1) if generator.random() < 0.5 else p_values  # ties
        result = holm({str(index): float(value) for index, value in enumerate(p_values)})
        assert list(result.values()) == pytest.approx(multipletests(p_values, method="holm")[1].tolist(), **EXACT)


def test_correlations_are_those_of_the_formulas_and_of_spearmanr() -> None:
    generator = np.random.default_rng(0)
    for count in generator.integers(3, 15, size=300):
        x, y = pairs(generator, count)
        if min(np.ptp(x), np.ptp(y)) == 0:
            continue
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, **EXACT)
        dx, dy = x - x.mean(), y - y.mean()
        assert pearson(x, y) == pytest.approx((dx @ dy) / math.sqrt((dx @ dx) * (dy @ dy)), **EXACT)


def test_correlations_go_over_the_last_axis() -> None:
    x, y = np.random.default_rng(0).random((2, 5, 4))
    assert spearman(x, y) == pytest.approx([float(spearman(*rows)) for rows in zip(x, y, strict=True)])
    assert pearson(x[0], y) == pytest.approx([float(pearson(x[0], row)) for row in y])


@pytest.mark.parametrize("method", ["spearman", "pearson"])
@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_the_permutation_test_counts_every_order(method: str, count: int) -> None:
    generator = np.random.default_rng(count)
    for _ in range(5):
        x, y = pairs(generator, count)
        measure = stats.spearmanr if method == "spearman" else stats.pearsonr
        orders = [abs(measure(x, np.array(order)).statistic) for order in permutations(y)]
        expected = np.mean(np.array(orders) >= abs(measure(x, y).statistic) - 1e-12)
        trials = [Trial(recipe=str(i), seed=0, known={"x": x[i]}, gain=y[i]) for i in range(count)]
        assert correlation(trials, "x", method, num_resamples=10).p_value == pytest.approx(expected, **EXACT)


def test_random_orders_are_those_of_the_seed() -> None:
    x, y = np.arange(9.0), np.random.default_rng(3).random(9)
    generator = np.random.default_rng(7)
    value = abs(stats.pearsonr(x, y).statistic)
    orders = np.array([generator.permutation(y) for _ in range(MAX_PERMUTATIONS)])
    extreme = int(np.sum(np.abs(pearson(x, orders)) >= value - 1e-12))
    trials = [Trial(recipe=str(i), seed=0, known={"x": x[i]}, gain=y[i]) for i in range(9)]
    result = correlation(trials, "x", "pearson", seed=7, num_resamples=10)
    assert result.p_value == pytest.approx((1 + extreme) / (1 + MAX_PERMUTATIONS), **EXACT)


def test_sign_flips_estimate_the_exact_test_of_scipy() -> None:
    generator = np.random.default_rng(0)
    for _ in range(5):
        first, second = generator.integers(-1, 2, size=5), generator.integers(-1, 2, size=7)
        one = {"a": answers(np.maximum(first, 0).tolist()), "b": answers(np.maximum(second, 0).tolist())}
        other = {"a": answers(np.maximum(-first, 0).tolist()), "b": answers(np.maximum(-second, 0).tolist())}
        weighed = np.concatenate([first / (2 * len(first)), second / (2 * len(second))])
        exact = stats.permutation_test(
            (weighed,), lambda x, axis: np.abs(x.sum(axis=axis)), permutation_type="samples", vectorized=True,
            alternative="greater", n_resamples=2 ** len(weighed), axis=-1,
        )  # fmt: skip
        result = paired_difference(one, other).p_value
        spread = math.sqrt(exact.pvalue * (1 - exact.pvalue) / 10_000)
        assert result == pytest.approx(exact.pvalue, abs=4 * spread + 1e-4)
