"""Does what is known of data before training predict what a student gains from them?

The sample is the recipes: seeds of one recipe have nearly the same data. With as few recipes as an experiment has, an
interval is wide, and a bootstrap's is too narrow still; p-values are exact.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
MIN_ARMS = 3
FEW_ARMS = 10  # with fewer, one recipe can make or break a correlation
# The smallest p-value of Spearman's rho over n recipes is 2 / n!: with fewer than 5 recipes none is below 0.05.
MAX_PERMUTATIONS = 40_320  # of 8 recipes: all of them; of more, so many at random


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One recipe at one seed: what was known of its data before training, and the student's gain (a fraction)."""

    recipe: str
    seed: int
    known: Mapping[str, float]
    gain: float


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Of the gain with one thing that is known of the data, over the recipes' means over seeds.

    ``low`` and ``high`` are a 95 % bootstrap over recipes, and over seeds within them. ``p_value`` is two-sided, of the
    permutation test that deals the gains out to the recipes anew. ``without`` is the correlation without each recipe.
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
        """What to say beside the number; empty where there are recipes enough."""
        if self.num_recipes >= FEW_ARMS:
            return ""
        low, high = min(self.without.values()), max(self.without.values())
        return f"{self.num_recipes} recipes only; without one of them it is {low:+.2f} to {high:+.2f}"


def pearson(x: Values, y: Values) -> Values:
    """Pearson's r over the last axis of two arrays that broadcast, [..., n] each; nan where one side does not vary."""
    from scipy import stats  # 0.6 s, which commands that only plan need not wait for

    x, y = np.broadcast_arrays(x, y)
    with warnings.catch_warnings():
        # A recipe can have the value of all others, most of all among few that are sampled again: nan says so.
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        return np.asarray(stats.pearsonr(x, y, axis=-1).statistic)


def spearman(x: Values, y: Values) -> Values:
    """Spearman's rho over the last axis, [..., n] each: Pearson's r of the ranks; equals share their mean rank.

    ``scipy.stats.spearmanr`` gives the same number, but takes every column for a variable: it cannot correlate the rows
    of two arrays pair by pair, as a bootstrap and a permutation test need.
    """
    from scipy import stats

    return pearson(stats.rankdata(x, axis=-1), stats.rankdata(y, axis=-1))


METHODS: dict[str, Callable[[Values, Values], Values]] = {"spearman": spearman, "pearson": pearson}


def correlation(
    trials: Sequence[Trial], known: str, method: str = "spearman", *, seed: int = 0, draws: int = 2000
) -> Correlation:
    """How the gain goes with ``known`` (a key of each trial's own) over recipes.

    Raises:
        ValueError: fewer than 3 recipes, or ``method`` is neither spearman nor pearson.
    """
    if method not in METHODS:
        raise ValueError(f"correlation by {method!r}; accepted: {', '.join(METHODS)}")
    by_recipe: dict[str, Values] = {}
    for recipe in dict.fromkeys(trial.recipe for trial in trials):
        by_recipe[recipe] = np.array([[trial.known[known], trial.gain] for trial in trials if trial.recipe == recipe])
    if len(by_recipe) < MIN_ARMS:
        raise ValueError(
            f"a correlation over {len(by_recipe)} recipes ({', '.join(by_recipe)}); at least {MIN_ARMS} are needed"
        )
    measure = METHODS[method]
    # Seeds are averaged first: recipes are the sample, and 20 seeds of one would not make it 20 recipes.
    means = np.array([rows.mean(axis=0) for rows in by_recipe.values()])
    x, y = means[:, 0], means[:, 1]
    low, high = _interval(list(by_recipe.values()), measure, seed, draws)
    # Leave one out: with few recipes a single one can carry the whole correlation.
    without = {recipe: float(measure(np.delete(x, i), np.delete(y, i))) for i, recipe in enumerate(by_recipe)}
    return Correlation(
        known=known,
        method=method,
        value=float(measure(x, y)),
        low=low,
        high=high,
        p_value=_permutation_test(x, y, measure, seed),
        num_recipes=len(by_recipe),
        num_trials=len(trials),
        without=without,
    )


def _interval(
    recipes: Sequence[Values], measure: Callable[[Values, Values], Values], seed: int, draws: int
) -> tuple[float, float]:
    """Percentiles of a bootstrap (Efron 1979) in two stages: recipes are sampled again, and seeds within each."""
    generator = np.random.default_rng(seed)
    means: list[Values] = []
    while len(means) < draws:
        sampled = generator.integers(0, len(recipes), size=len(recipes))
        # Two points always lie on a line: samples of fewer than 3 different recipes would add correlations of 1 and -1.
        if len(set(sampled.tolist())) < MIN_ARMS:
            continue
        # Chance lies in the recipes and in the seeds of each: without the second stage the interval is too narrow.
        seeds = [recipes[i][generator.integers(0, len(recipes[i]), size=len(recipes[i]))] for i in sampled]
        means.append(np.array([rows.mean(axis=0) for rows in seeds]))
    both = np.array(means)  # [draws, recipes, 2]
    values = measure(both[..., 0], both[..., 1])
    values = values[~np.isnan(values)]  # samples in which one side does not vary
    low, high = np.percentile(values, (2.5, 97.5)) if values.size else (np.nan, np.nan)
    return float(low), float(high)


def _permutation_test(x: Values, y: Values, measure: Callable[[Values, Values], Values], seed: int) -> float:
    """The share of orders of ``y`` whose correlation with ``x`` is as far from 0 (Fisher's randomisation test): of all
    orders where they are at most ``MAX_PERMUTATIONS``, else of random ones, the order found counted among them."""
    from scipy import stats

    # nan is as extreme as nothing, and a share of 0 would read as certainty.
    if np.isnan(measure(x, y)):
        return float("nan")
    # scipy's own two-sided p-value is twice the smaller tail, which differs where the null distribution is skewed.
    found = stats.permutation_test(
        (y,),
        lambda y, axis: np.abs(measure(x, y)),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=MAX_PERMUTATIONS,
        alternative="greater",
        axis=-1,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)
