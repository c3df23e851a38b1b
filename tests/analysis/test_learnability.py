from __future__ import annotations

import numpy as np
import pytest

from micota.analysis.learnability import Trial, correlation, pearson, spearman


def trials(bits: list[float], gains: list[float], seeds: int = 3, noise: float = 0.0) -> list[Trial]:
    generator = np.random.default_rng(1)
    return [
        Trial(recipe=f"recipe{i}", seed=seed, known={"bits_per_byte": b + noise * generator.normal()},
              gain=g + noise * generator.normal())
        for i, (b, g) in enumerate(zip(bits, gains, strict=True)) for seed in range(seeds)
    ]  # fmt: skip


def test_coefficients_by_hand() -> None:
    x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 8.0, 27.0, 64.0])
    assert spearman(x, y) == pytest.approx(1.0)
    assert pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert spearman(x, np.array([2.0, 1.0, 4.0, 3.0])) == pytest.approx(1 - 6 * 4 / (4 * 15))
    assert spearman(np.array([3.0, 1.0, 3.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(0.0), "equals share a rank"


def test_what_does_not_vary_has_no_correlation_and_no_p_value() -> None:
    assert np.isnan(pearson(np.arange(3.0), np.full(3, 0.1)))  # the mean of these is not 0.1 in floats
    result = correlation(trials([0.1, 0.1, 0.1], [0.1, 0.2, 0.3], seeds=1), "bits_per_byte", num_resamples=10)
    assert np.isnan(result.value) and np.isnan(result.p_value)


def test_recipes_are_the_sample_however_many_seeds() -> None:
    bits, gains = [0.1, 0.2, 0.3, 0.4, 0.5], [0.05, 0.04, -0.1, -0.05, -0.3]
    few, many = (correlation(trials(bits, gains, seeds), "bits_per_byte") for seeds in (1, 20))
    assert few.value == many.value == pytest.approx(-0.9)
    assert few.p_value == many.p_value == pytest.approx(10 / 120), "exact: 10 of the 120 orders are as extreme"
    assert (few.num_recipes, few.num_trials, many.num_trials) == (5, 5, 100)
    assert few.low <= few.value <= few.high and few.low == pytest.approx(-1)


def test_an_interval_holds_zero_where_there_is_nothing() -> None:
    result = correlation(
        trials([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.3, 0.1, 0.4, 0.1, 0.5, 0.2]), "bits_per_byte", "pearson"
    )
    assert result.low < 0 < result.high and result.p_value > 0.3


def test_one_recipe_that_makes_the_correlation_is_reported() -> None:
    result = correlation(trials([0.1, 0.11, 0.12, 0.9], [0.01, 0.02, 0.03, -0.9]), "bits_per_byte", "pearson")
    assert result.value < -0.99 and result.without["recipe3"] > 0.9
    assert result.caveat.startswith("4 recipes only; without one of them it is -1.00 to +1.00")


def test_many_recipes_are_permuted_at_random() -> None:
    bits = [float(i) for i in range(12)]
    result = correlation(trials(bits, bits, seeds=1), "bits_per_byte", num_resamples=50)
    assert result.value == pytest.approx(1.0) and 0 < result.p_value < 0.001 and result.caveat == ""


def test_too_few_recipes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"over 2 recipes \(recipe0, recipe1\); at least 3"):
        correlation(trials([0.1, 0.2], [0.1, 0.2]), "bits_per_byte")
    with pytest.raises(ValueError, match="correlation by 'kendall'; accepted: spearman, pearson"):
        correlation(trials([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]), "bits_per_byte", "kendall")
