"""Accuracy with intervals, and paired comparisons on the same problems. All in fractions, not percent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference with its 95 % interval and two-sided p-value."""

    p_value: float

    @property
    def is_distinguishable(self) -> bool:
        return self.p_value < 0.05


def wilson(correct: float, total: int) -> Estimate:
    """Share of ``correct`` in ``total`` with Wilson's score interval (Wilson 1927), right for small benchmarks too."""
    if total == 0:
        return Estimate(math.nan, math.nan, math.nan)
    share = correct / total
    centre = (share + Z95**2 / (2 * total)) / (1 + Z95**2 / total)
    half = Z95 * math.sqrt(share * (1 - share) / total + Z95**2 / (4 * total**2)) / (1 + Z95**2 / total)
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))


def macro_average(correct: Mapping[str, Sequence[float]]) -> Estimate:
    """Unweighted mean of benchmark accuracies; problems are the sample, so the variance is that of a stratified mean.

    ``correct`` maps a benchmark to one number per problem, from 0 to 1 (the mean over samples or seeds).
    """
    mean, error = _stratified([np.asarray(values, dtype=float) for values in correct.values()])
    return Estimate(mean, mean - Z95 * error, mean + Z95 * error)


def paired_difference(
    ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]], seed: int = 0, draws: int = 10_000
) -> Difference:
    """Difference of two macro averages over the SAME problems, with the p-value of a sign-flip permutation test.

    Under the null hypothesis the sign of each problem's difference is random (Fisher's randomisation test for pairs);
    the p-value has the +1 correction, so that it is never 0 (Phipson and Smyth 2010).
    """
    if ours.keys() != theirs.keys() or any(len(ours[name]) != len(theirs[name]) for name in ours):
        raise ValueError("a paired comparison needs the same benchmarks and problems on both sides")
    deltas = [np.asarray(ours[name], dtype=float) - np.asarray(theirs[name], dtype=float) for name in ours]
    mean, error = _stratified(deltas)
    generator = np.random.default_rng(seed)
    flipped = np.zeros(draws)
    for delta in deltas:
        nonzero = delta[delta != 0]
        signs = generator.integers(0, 2, size=(draws, len(nonzero)), dtype=np.int8) * 2 - 1
        flipped += signs @ nonzero / (len(delta) * len(deltas))
    p_value = (1 + int(np.sum(np.abs(flipped) >= abs(mean) - 1e-12))) / (1 + draws)
    return Difference(mean, mean - Z95 * error, mean + Z95 * error, p_value)


def _stratified(strata: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Mean of the strata's means, and its standard error."""
    means = [float(values.mean()) for values in strata]
    variances = [float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0 for values in strata]
    return float(np.mean(means)), math.sqrt(sum(variances)) / len(strata)
