"""Does what is known of data before training predict what a student gains from them?

The sample is the arms: seeds of one arm have nearly the same data. With as few arms as an experiment has, an interval
is wide, and a bootstrap's is too narrow still; p-values are exact.
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
FEW_ARMS = 10  # with fewer, one arm can make or break a correlation
MAX_PERMUTATIONS = 40_320  # of 8 arms: all of them; of more, so many at random


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One arm at one seed: what was known of its data before training, and the student's gain (a fraction)."""

    arm: str
    seed: int
    known: Mapping[str, float]
    gain: float


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Of the gain with one thing that is known of the data, over the arms' means over seeds.

    ``low`` and ``high`` are a 95 % bootstrap over arms, and over seeds within them. ``p_value`` is two-sided, of the
    permutation test that deals the gains out to the arms anew. ``without`` is the correlation without each arm.
    """

    known: str
    method: str
    value: float
    low: float
    high: float
    p_value: float
    num_arms: int
    num_trials: int
    without: dict[str, float]

    @property
    def caveat(self) -> str:
        """What to say beside the number; empty where there are arms enough."""
        if self.num_arms >= FEW_ARMS:
            return ""
        low, high = min(self.without.values()), max(self.without.values())
        return f"{self.num_arms} arms only; without one of them it is {low:+.2f} to {high:+.2f}"


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
    """How the gain goes with ``known`` (a key of each trial's own) over arms.

    Raises:
        ValueError: fewer than 3 arms, or ``method`` is neither spearman nor pearson.
    """
    if method not in METHODS:
        raise ValueError(f"correlation by {method!r}; accepted: {', '.join(METHODS)}")
    by_arm: dict[str, Values] = {}
    for arm in dict.fromkeys(trial.arm for trial in trials):
        by_arm[arm] = np.array([[trial.known[known], trial.gain] for trial in trials if trial.arm == arm])
    if len(by_arm) < MIN_ARMS:
        raise ValueError(f"a correlation over {len(by_arm)} arms ({', '.join(by_arm)}); at least {MIN_ARMS} are needed")
    measure = METHODS[method]
    means = np.array([rows.mean(axis=0) for rows in by_arm.values()])
    x, y = means[:, 0], means[:, 1]
    low, high = _interval(list(by_arm.values()), measure, seed, draws)
    without = {arm: measure(np.delete(x, i), np.delete(y, i)) for i, arm in enumerate(by_arm)}
    return Correlation(
        known=known,
        method=method,
        value=measure(x, y),
        low=low,
        high=high,
        p_value=_permutation_test(x, y, measure, seed),
        num_arms=len(by_arm),
        num_trials=len(trials),
        without=without,
    )


def _interval(
    arms: Sequence[Values], measure: Callable[[Values, Values], float], seed: int, draws: int
) -> tuple[float, float]:
    """Percentiles over arms drawn again, each at the mean of its seeds drawn again; draws of fewer than 3 different
    arms, which always lie on a line, do not count."""
    generator = np.random.default_rng(seed)
    found: list[float] = []
    while len(found) < draws:
        drawn = generator.integers(0, len(arms), size=len(arms))
        if len(set(drawn.tolist())) < MIN_ARMS:
            continue
        means = np.array([arms[i][generator.integers(0, len(arms[i]), size=len(arms[i]))].mean(axis=0) for i in drawn])
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
