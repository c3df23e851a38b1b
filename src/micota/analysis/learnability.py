"""Learnability: correlation of data properties that are known before training with the student's gain.

The sample is the recipes, as seeds of one recipe have nearly the same data. With few recipes a bootstrap interval is
wide and still too narrow; p-values are exact.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
MIN_RECIPES = 3
FEW_RECIPES = 10  # with fewer, one recipe can make or break a correlation
# The smallest p-value of Spearman's rho over n recipes is 2 / n!: with fewer than 5 recipes none is below 0.05.
MAX_PERMUTATIONS = 40_320  # 8!: all orders of 8 recipes; for more recipes a random sample


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One recipe at one seed: properties of its data before training, and the student's gain (a fraction)."""

    recipe: str
    seed: int
    known: Mapping[str, float]
    gain: float


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Correlation of the gain with one property of the data (``known``), over the recipes' means over seeds.

    ``low`` and ``high`` are a 95 % bootstrap interval over recipes, and over seeds within them. ``p_value`` is
    two-sided, by a permutation test of the gains over recipes. ``without`` is the correlation without each recipe.
    """

    known: str
    method: str
    value: float
    low: float
    high: float
    p_value: float
    num_recipes: int
    num_trials: int
    without: dict[str, float]

    @property
    def caveat(self) -> str:
        """A warning to show beside the number; empty if there are enough recipes."""
        if self.num_recipes >= FEW_RECIPES:
            return ""
        low, high = min(self.without.values()), max(self.without.values())
        return f"{self.num_recipes} recipes only; without one of them it is {low:+.2f} to {high:+.2f}"


def pearson(x: Values, y: Values) -> Values:
    """Return Pearson's r over the last axis of two arrays that broadcast, [..., n] each; nan if one side is
    constant."""
    from scipy import stats  # imported here: it takes 0.6 s, which commands that only plan do not need

    x, y = np.broadcast_arrays(x, y)
    with warnings.catch_warnings():
        # All recipes can have one value, above all in a bootstrap sample of few; the result is then nan.
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        return np.asarray(stats.pearsonr(x, y, axis=-1).statistic)


def spearman(x: Values, y: Values) -> Values:
    """Return Spearman's rho over the last axis, [..., n] each: Pearson's r of the ranks; equals share their mean rank.

    ``scipy.stats.spearmanr`` gives the same number but treats every column as a variable: it cannot correlate the rows
    of two arrays pair by pair, which the bootstrap and the permutation test need.
    """
    from scipy import stats

    return pearson(stats.rankdata(x, axis=-1), stats.rankdata(y, axis=-1))


METHODS: dict[str, Callable[[Values, Values], Values]] = {"spearman": spearman, "pearson": pearson}


def correlation(
    trials: Sequence[Trial], known: str, method: str = "spearman", *, seed: int = 0, num_resamples: int = 2000
) -> Correlation:
    """Return the correlation of the gain with ``known`` (a key of ``Trial.known``) over recipes.

    Raises:
        ValueError: fewer than 3 recipes, or ``method`` is neither spearman nor pearson.
    """
    if method not in METHODS:
        raise ValueError(f"correlation by {method!r}; accepted: {', '.join(METHODS)}")
    by_recipe: dict[str, Values] = {}
    for recipe in dict.fromkeys(trial.recipe for trial in trials):
        by_recipe[recipe] = np.array([[trial.known[known], trial.gain] for trial in trials if trial.recipe == recipe])
    if len(by_recipe) < MIN_RECIPES:
        raise ValueError(
            f"a correlation over {len(by_recipe)} recipes ({', '.join(by_recipe)}); at least {MIN_RECIPES} are needed"
        )
    coefficient = METHODS[method]
    # Seeds are averaged first: recipes are the sample, and 20 seeds of one recipe are not 20 recipes.
    means = np.array([rows.mean(axis=0) for rows in by_recipe.values()])
    x, y = means[:, 0], means[:, 1]
    low, high = _interval(list(by_recipe.values()), coefficient, seed, num_resamples)
    # Leave one out: with few recipes a single one can cause the whole correlation.
    without = {recipe: float(coefficient(np.delete(x, i), np.delete(y, i))) for i, recipe in enumerate(by_recipe)}
    return Correlation(
        known=known,
        method=method,
        value=float(coefficient(x, y)),
        low=low,
        high=high,
        p_value=_permutation_test(x, y, coefficient, seed),
        num_recipes=len(by_recipe),
        num_trials=len(trials),
        without=without,
    )


def _interval(
    recipes: Sequence[Values], coefficient: Callable[[Values, Values], Values], seed: int, num_resamples: int
) -> tuple[float, float]:
    """Return percentiles of a two-stage bootstrap (Efron 1979): recipes are resampled, then seeds within each."""
    generator = np.random.default_rng(seed)
    means: list[Values] = []
    while len(means) < num_resamples:
        sampled = generator.integers(0, len(recipes), size=len(recipes))
        # Two points always lie on a line: samples of fewer than 3 different recipes would add correlations of 1 and -1.
        if len(set(sampled.tolist())) < MIN_RECIPES:
            continue
        # Recipes and their seeds both vary by chance: without the second stage the interval is too narrow.
        seeds = [recipes[i][generator.integers(0, len(recipes[i]), size=len(recipes[i]))] for i in sampled]
        means.append(np.array([rows.mean(axis=0) for rows in seeds]))
    both = np.array(means)  # [num_resamples, recipes, 2]
    values = coefficient(both[..., 0], both[..., 1])
    values = values[~np.isnan(values)]  # without samples in which one side is constant
    low, high = np.percentile(values, (2.5, 97.5)) if values.size else (np.nan, np.nan)
    return float(low), float(high)


def _permutation_test(x: Values, y: Values, coefficient: Callable[[Values, Values], Values], seed: int) -> float:
    """Return the share of orders of ``y`` whose correlation with ``x`` is at least as far from 0 as the observed one
    (Fisher's randomisation test).

    It tries all orders if there are at most ``MAX_PERMUTATIONS``, else random ones, and counts the observed order.
    """
    from scipy import stats

    # No comparison with nan is true, so the share would be 0, which looks like certainty.
    if np.isnan(coefficient(x, y)):
        return float("nan")
    # scipy's two-sided p-value is twice the smaller tail, which differs if the null distribution is skewed.
    test = stats.permutation_test(
        (y,),
        lambda y, axis: np.abs(coefficient(x, y)),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=MAX_PERMUTATIONS,
        alternative="greater",
        axis=-1,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)
