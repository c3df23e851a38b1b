"""Statistics of scores: intervals, paired differences and tests. All values are fractions, not percent.

Problems are the sample, not the answers to them: several answers to one problem are not independent, and a new
evaluation would have other problems.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micota.analysis.intervals import (
    ALPHA,
    Estimate,
    agreeing,
    bounded_mean,
    combined,
    paired_mean,
)

Z95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution
MAX_SIGNS = 2**20  # of a sign-flip test in memory at once
POWER = 0.8  # of a test for a difference to be detectable
Suite = Mapping[str, Mapping[str, float]]  # benchmark -> problem id -> mean over samples, from 0 to 1


class PairingError(ValueError):
    """Two sides do not have the same problems, or problems differ in their number of samples."""


@dataclass(frozen=True)
class SampledEstimate(Estimate):
    """An average over problems that were each sampled ``num_samples`` times, and its standard error over problems."""

    standard_error: float
    num_samples: int


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference with its 95 % interval, two-sided p-value and standard error.

    ``deltas`` are the differences of the problems, by benchmark. Interval and p-value may be corrected for many
    comparisons (:func:`simultaneous`); the interval excludes 0 exactly where the p-value is below ``ALPHA``.
    """

    p_value: float
    standard_error: float
    deltas: Sequence[NDArray[np.float64]] = field(default=(), repr=False, compare=False)

    @property
    def is_distinguishable(self) -> bool:
        return self.p_value < ALPHA

    @property
    def label(self) -> str:
        """``better``, ``worse`` or ``not distinguishable``."""
        return label(self.value, self.p_value)

    @property
    def detectable(self) -> float:
        """The true difference that a comparison with this standard error detects in 4 of 5 repetitions."""
        return minimum_detectable_effect(self.standard_error)


@dataclass(frozen=True)
class Discordance:
    """Two models on one benchmark: problems that only one of them solves, and the p-value of McNemar's exact test."""

    num_better: int
    num_worse: int
    num_problems: int
    p_value: float

    @property
    def label(self) -> str:
        """``better``, ``worse`` or ``not distinguishable``."""
        return label(self.num_better - self.num_worse, self.p_value)


def label(difference: float, p_value: float) -> str:
    """Return a tested difference in words; the p-value may be corrected for many comparisons (:func:`holm`)."""
    if p_value >= ALPHA:
        return "not distinguishable"
    return "better" if difference > 0 else "worse"


def average_at_k(samples: Mapping[str, Sequence[float]]) -> SampledEstimate:
    """avg@k: the mean over problems of each problem's mean over its k samples (1 or 0 each, by problem id).

    The interval is :func:`~micota.analysis.intervals.bounded_mean`: Wilson's for k = 1, and never empty.

    Raises:
        PairingError: there are no problems, or they differ in their number of samples.
    """
    return _over_problems(problem_means(samples), num_samples(samples))


def pass_at_k(samples: Mapping[str, Sequence[float]], k: int) -> SampledEstimate:
    """pass@k: the chance that one of k samples is right, from n >= k samples of which c are right.

    The interval is that of :func:`average_at_k`.

    Raises:
        ValueError: k is not from 1 to n, a sample is neither 0 nor 1, or (PairingError) n differs.
    """
    return _over_problems(pass_values(samples, k), num_samples(samples))


def pass_values(samples: Mapping[str, Sequence[float]], k: int) -> dict[str, float]:
    """Return for each problem the chance that one of k of its samples is right.

    Unbiased: 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, eq. 1).

    Raises:
        ValueError: as for :func:`pass_at_k`.
    """
    n = num_samples(samples)
    if not 1 <= k <= n:
        raise ValueError(f"pass@k with k={k} from {n} samples of each problem; accepted: k from 1 to {n}")
    _check_binary(samples)
    # C(n-c, k) of the C(n, k) ways to choose k samples hold no right one. Python's whole numbers: no float overflows.
    return {name: 1 - math.comb(n - round(sum(rights)), k) / math.comb(n, k) for name, rights in samples.items()}


def mean_estimate(values: Mapping[str, float]) -> Estimate:
    """Return the mean over problems of values from 0 to 1, with the interval of :func:`average_at_k`."""
    return bounded_mean(_array(values.values()))


def num_samples(samples: Mapping[str, Sequence[Any]]) -> int:
    """Return the number of samples that every problem has.

    Raises:
        PairingError: there are no problems, or they differ; the text names one.
    """
    counts = {name: len(values) for name, values in samples.items()}
    if not counts:
        raise PairingError("there are no problems to average over")
    most = max(counts.values())
    if most == 0:
        raise PairingError("the problems have no samples")
    short = [name for name, count in counts.items() if count != most]
    if short:
        raise PairingError(
            f"problem {short[0]!r} has {counts[short[0]]} samples and others have {most} ({len(short)} problems have "
            "fewer); every problem needs the same number"
        )
    return most


def problem_means(samples: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the mean over samples of each problem.

    Raises:
        PairingError: problems differ in their number of samples.
    """
    num_samples(samples)
    return {name: sum(values) / len(values) for name, values in samples.items()}


def macro_average(suite: Suite) -> Estimate:
    """Return the unweighted mean of benchmark accuracies, with the interval that follows from theirs."""
    _check_not_empty(suite)
    return combined([bounded_mean(_array(values.values())) for values in suite.values()])


def paired_difference(first: Suite, second: Suite, seed: int = 0, num_resamples: int = 10_000) -> Difference:
    """Return first - second of two macro averages over the SAME problems, with the p-value of a sign-flip test.

    Under the null hypothesis the sign of each problem's difference is random, within each benchmark (Fisher's
    randomisation test for pairs). The p-value has the +1 correction, so it is never 0 (Phipson and Smyth 2010).
    The interval is that of the benchmarks' paired means (:func:`~micota.analysis.intervals.paired_mean`), combined;
    it excludes 0 exactly where p is below ``ALPHA``.

    Raises:
        PairingError: benchmarks or problems differ; the text names what is missing.
    """
    deltas = align(first, second)
    mean, error = stratified(deltas)
    # scipy's permutation_test(permutation_type="samples") agrees, but holds all signs of all problems in memory at once
    # (10,000 x 2,564 floats for the paper's suite: 200 MB), and its signs for a seed differ, which changes p-values.
    generator = np.random.default_rng(seed)
    flipped = np.zeros(num_resamples)
    for delta in deltas:
        nonzero = delta[delta != 0]  # a sign has no effect on 0, and most problems have the same result on both sides
        for block in _blocks(num_resamples, len(nonzero)):
            flipped[block] += (
                _signs(generator, len(flipped[block]), len(nonzero)) @ nonzero / (len(delta) * len(deltas))
            )
    # p = (1 + #{|flipped| >= |mean|}) / (1 + num_resamples). Sums of the same numbers in another order differ by
    # rounding. The tolerance counts them as equal.
    p_value = (1 + int(np.sum(np.abs(flipped) >= abs(mean) - 1e-12))) / (1 + num_resamples)
    interval = agreeing(combined([paired_mean(delta) for delta in deltas]), p_value)
    return Difference(mean, interval.low, interval.high, p_value, error, deltas)


def _blocks(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Yield slices of the rows of a matrix that has at most ``MAX_SIGNS`` elements in each (at least 4 rows)."""
    # The generator makes signs four at a time: blocks of a multiple of 4 rows have those of the whole matrix.
    rows = max(4, MAX_SIGNS // max(1, num_columns) // 4 * 4)
    for start in range(0, num_rows, rows):
        yield slice(start, start + rows)


def _signs(generator: np.random.Generator, num_rows: int, num_columns: int) -> NDArray[np.int8]:
    """Return random signs, 1 or -1, as [num_rows, num_columns]."""
    return generator.integers(0, 2, size=(num_rows, num_columns), dtype=np.int8) * np.int8(2) - np.int8(1)


def mcnemar(first: Mapping[str, float], second: Mapping[str, float]) -> Discordance:
    """McNemar's exact test on one benchmark, each problem right (1) or wrong (0), by problem id.

    Under the null hypothesis a problem that only one side solves is equally likely to be of either side, so the numbers
    are binomial. The p-value is twice the smaller tail, at most 1 (McNemar 1947; Agresti 2002, section 10.1).

    Raises:
        ValueError: a value is neither 0 nor 1, or (PairingError) problems differ.
    """
    for side in (first, second):
        _check_binary({name: [value] for name, value in side.items()})
    [delta] = align({"": first}, {"": second})
    better, worse = int(np.sum(delta > 0)), int(np.sum(delta < 0))
    return Discordance(better, worse, len(delta), _sign_test(better, worse))


def _sign_test(better: int, worse: int) -> float:
    if better + worse == 0:
        return 1.0  # no discordant problem; scipy does not define a binomial of no trials
    from scipy import stats  # imported here: it takes 0.6 s, which commands that only plan do not need

    # p = min(1, 2 P(X <= min(b, c))) with X ~ Binomial(b + c, 1/2). The chi-squared approximation (b - c)^2 / (b + c)
    # is wrong for few discordant problems, as among the 30 problems of AIME.
    return float(stats.binomtest(better, better + worse, 0.5).pvalue)


def align(first: Suite, second: Suite) -> list[NDArray[np.float64]]:
    """Return for each benchmark the differences first - second, paired by problem id.

    Raises:
        PairingError: benchmarks or problems differ, or there are none; the text names what is missing.
    """
    _check_same("benchmarks", first, second)
    _check_not_empty(first)
    deltas = []
    for bench, values in first.items():
        _check_same(f"problems of {bench}" if bench else "problems", values, second[bench])
        deltas.append(np.array([value - second[bench][name] for name, value in values.items()], dtype=float))
    return deltas


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted by Holm (1979) for many comparisons.

    The chance of at least one false alarm at ``ALPHA`` is at most ``ALPHA``, with any dependence between comparisons.
    """
    # scipy has no Holm; statsmodels' multipletests is equal, but takes a second to import and is 65 MB.
    adjusted: dict[str, float] = {}
    # p~_(i) = max over j <= i of min(1, (m - j + 1) p_(j)), p-values in rising order (Holm 1979, Scand. J. Stat. 6:65).
    # The running maximum keeps the order: no comparison is adjusted below one with a smaller p-value.
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def simultaneous(differences: Mapping[str, Difference]) -> dict[str, Difference]:
    """Return differences with p-values by :func:`holm` and with intervals that hold jointly with 95 % confidence.

    The intervals have Bonferroni's level ``ALPHA / m`` for m comparisons. Where Holm's p rejects a difference of 0 and
    Bonferroni's interval does not, its end is cut at 0, as Holm's procedure allows (Strassburger and Bretz 2008, Stat.
    Med. 27:4914). So no interval that excludes 0 stands beside "not distinguishable", nor the reverse.
    """
    p_values = holm({name: difference.p_value for name, difference in differences.items()})
    return {
        name: corrected(difference, p_values[name], ALPHA / len(differences))
        for name, difference in differences.items()
    }


def best_of(difference: Difference, count: int) -> Difference:
    """Return the difference of two models that were chosen among ``count`` pairs, corrected by Bonferroni for all."""
    return corrected(difference, min(1.0, count * difference.p_value), ALPHA / count)


def corrected(difference: Difference, p_value: float, alpha: float) -> Difference:
    """Return a difference with another p-value and with intervals of level ``alpha`` that agree with it."""
    wide = combined([paired_mean(delta, alpha) for delta in difference.deltas])
    interval = agreeing(wide, p_value)
    return replace(difference, low=interval.low, high=interval.high, p_value=p_value)


def minimum_detectable_effect(standard_error: float, power: float = POWER, num_comparisons: int = 1) -> float:
    """Return the true difference that a two-sided test at ``ALPHA`` detects with probability ``power``.

    It is (z(0.975) + z(power)) standard errors of the observed difference. The smallest observed difference that is
    significant is 1.96 standard errors; a true difference of that size is detected in half of the cases
    (``power=0.5``). With several comparisons each is at ``ALPHA / num_comparisons`` (Bonferroni).
    """
    threshold = Z95 if num_comparisons == 1 else NormalDist().inv_cdf(1 - ALPHA / num_comparisons / 2)
    return (threshold + NormalDist().inv_cdf(power)) * standard_error


def paired_error(num_problems: Mapping[str, int], discordance: Mapping[str, float]) -> float:
    """Return the expected standard error of a paired difference of macro averages, for planning.

    ``discordance`` is the share of problems of each benchmark that only one of the two models solves. The variance of
    one problem's difference is that share minus the squared difference of the accuracies, which is left out.
    """
    # A problem's difference is 1, 0 or -1: E[d^2] is the share of discordant problems, E[d]^2 a few thousandths of it.
    return _planned_error(num_problems, discordance)


def unpaired_error(num_problems: Mapping[str, int], accuracy: Mapping[str, float]) -> float:
    """Return the standard error of the difference of two macro averages over different problems."""
    # Var(x - y) = p (1 - p) + p (1 - p) for two independent answers: without pairing, the difficulty of problems stays.
    return _planned_error(num_problems, {name: 2 * share * (1 - share) for name, share in accuracy.items()})


def _planned_error(num_problems: Mapping[str, int], variance: Mapping[str, float]) -> float:
    _check_same("benchmarks", num_problems, variance)
    return math.sqrt(sum(variance[name] / count for name, count in num_problems.items())) / len(num_problems)


def _over_problems(means: Mapping[str, float], num_samples: int) -> SampledEstimate:
    """Return the mean over problems with its interval and standard error."""
    values = _array(means.values())
    interval = bounded_mean(values)
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return SampledEstimate(interval.value, interval.low, interval.high, error, num_samples)


def _array(values: Iterable[float]) -> NDArray[np.float64]:
    return np.array(list(values), dtype=float)


def stratified(strata: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return the mean of the strata's means, and its standard error: sqrt(sum of s^2 / n over strata) / strata."""
    # ddof=1: the problems of a benchmark are a sample, and the variance of the population is estimated from them.
    means = [float(values.mean()) for values in strata]
    variances = [float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0 for values in strata]
    return float(np.mean(means)), math.sqrt(sum(variances)) / len(strata)


def _check_binary(samples: Mapping[str, Sequence[float]]) -> None:
    for name, values in samples.items():
        for value in values:
            if value not in (0, 1):
                raise ValueError(f"problem {name!r} has the value {value}; accepted: 0 or 1")


def _check_not_empty(suite: Suite) -> None:
    if not suite:
        raise PairingError("a comparison needs at least one benchmark")
    for bench, values in suite.items():
        if not values:
            raise PairingError(f"there are no problems{f' of {bench}' if bench else ''} to average over")


def _check_same(what: str, first: Collection[str], second: Collection[str]) -> None:
    """Raise PairingError unless both sides have the same names."""
    for missing, side in ((set(second) - set(first), "first"), (set(first) - set(second), "second")):
        if missing:
            some = ", ".join(sorted(missing)[:3]) + (", ..." if len(missing) > 3 else "")
            raise PairingError(
                f"the {side} side lacks {len(missing)} {what} that the other has ({some}); a paired comparison needs "
                "the same benchmarks and problems on both sides"
            )
