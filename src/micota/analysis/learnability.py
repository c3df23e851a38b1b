"""Does what is known of data before training predict what a student gains from them?

The sample is the recipes: seeds of one recipe have nearly the same data. With as few recipes as an experiment has, an
interval is wide, and a bootstrap's is too narrow still; p-values are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, permutations
from math import factorial

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
MIN_ARMS = 3
FEW_ARMS = 10  # with fewer, one recipe can make or break a correlation
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


def pearson(x: Values, y: Values) -> float:
    """Pearson's r; nan where one side does not vary."""
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 1e-300 else float("nan")


def ranks(values: Values) -> Values:
    """From 0 on; equals share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middles: Values = (ends - counts + ends - 1) / 2
    return middles[place]


def spearman(x: Values, y: Values) -> float:
    """Spearman's rho: Pearson's r of the ranks."""
    return pearson(ranks(x), ranks(y))


METHODS: dict[str, Callable[[Values, Values], float]] = {"spearman": spearman, "pearson": pearson}


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
    means = np.array([rows.mean(axis=0) for rows in by_recipe.values()])
    x, y = means[:, 0], means[:, 1]
    low, high = _interval(list(by_recipe.values()), measure, seed, draws)
    without = {recipe: measure(np.delete(x, i), np.delete(y, i)) for i, recipe in enumerate(by_recipe)}
    return Correlation(
        known=known,
        method=method,
        value=measure(x, y),
        low=low,
        high=high,
        p_value=_permutation_test(x, y, measure, seed),
        num_recipes=len(by_recipe),
        num_trials=len(trials),
        without=without,
    )


def _interval(
    recipes: Sequence[Values], measure: Callable[[Values, Values], float], seed: int, draws: int
) -> tuple[float, float]:
    """Percentiles over recipes drawn again, each at the mean of its seeds drawn again; draws of fewer than 3 different
    recipes, which always lie on a line, do not count."""
    generator = np.random.default_rng(seed)
    found: list[float] = []
    while len(found) < draws:
        drawn = generator.integers(0, len(recipes), size=len(recipes))
        if len(set(drawn.tolist())) < MIN_ARMS:
            continue
        means = np.array(
            [recipes[i][generator.integers(0, len(recipes[i]), size=len(recipes[i]))].mean(axis=0) for i in drawn]
        )
        found.append(measure(means[:, 0], means[:, 1]))
    low, high = np.nanpercentile(found, (2.5, 97.5))
    return float(low), float(high)


def _permutation_test(x: Values, y: Values, measure: Callable[[Values, Values], float], seed: int) -> float:
    """Exact where all orders can be tried; else by random ones, with the +1 correction."""
    value = abs(measure(x, y))
    if factorial(len(y)) <= MAX_PERMUTATIONS:
        orders = islice(permutations(range(len(y))), MAX_PERMUTATIONS)
        extreme = [abs(measure(x, y[list(order)])) >= value - 1e-12 for order in orders]
        return sum(extreme) / len(extreme)
    generator = np.random.default_rng(seed)
    count = sum(abs(measure(x, generator.permutation(y))) >= value - 1e-12 for _ in range(MAX_PERMUTATIONS))
    return (1 + count) / (1 + MAX_PERMUTATIONS)
