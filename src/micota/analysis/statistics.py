"""What scores say and whether a difference is real. All in fractions, not percent.

Problems are the sample, never the answers to them: several answers to one problem are not independent, and a new
evaluation would have other problems.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution
ALPHA = 0.05  # two-sided, of every test and label
POWER = 0.8  # at which a difference counts as detectable
Suite = Mapping[str, Mapping[str, float]]  # benchmark -> problem id -> mean over samples, from 0 to 1


class PairingError(ValueError):
    """Two sides were not measured on the same problems, or a problem not by as many samples as the others."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SampledEstimate(Estimate):
    """An average over problems that were each sampled ``num_samples`` times, and its standard error over problems."""

    standard_error: float
    num_samples: int


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference with its 95 % interval, two-sided p-value and standard error."""

    p_value: float
    standard_error: float

    @property
    def is_distinguishable(self) -> bool:
        return self.p_value < ALPHA

    @property
    def label(self) -> str:
        """``better``, ``worse`` or ``not distinguishable``."""
        return label(self.value, self.p_value)

    @property
    def detectable(self) -> float:
        """The true difference that a comparison as noisy as this one would find in 4 of 5 repetitions."""
        return minimum_detectable_effect(self.standard_error)


@dataclass(frozen=True)
class Discordance:
    """Of two models on one benchmark: problems that one alone solves, and the p-value of McNemar's exact test."""

    num_better: int
    num_worse: int
    num_problems: int
    p_value: float

    @property
    def label(self) -> str:
        """``better``, ``worse`` or ``not distinguishable``."""
        return label(self.num_better - self.num_worse, self.p_value)


def label(difference: float, p_value: float) -> str:
    """A tested difference in words; p-values corrected for many comparisons (:func:`holm`) go in as well."""
    if p_value >= ALPHA:
        return "not distinguishable"
    return "better" if difference > 0 else "worse"


def wilson(correct: float, total: float) -> Estimate:
    """Share of ``correct`` in ``total`` with Wilson's score interval (Wilson 1927), right for small benchmarks too."""
    if total == 0:
        return Estimate(math.nan, math.nan, math.nan)
    # The p that solve |share - p| = z sqrt(p (1 - p) / n): the error is that of the true p, not of the share, for which
    # it is 0 where all answers are right (Wilson 1927, J. Am. Stat. Assoc. 22:209).
    # scipy's (binomtest) is equal but takes whole numbers only, and average_at_k has effective numbers of problems.
    # statsmodels' takes those, but ends a rounding error off 0 and 1 at some totals, and is 65 MB for three lines.
    share = correct / total
    centre = (share + Z95**2 / (2 * total)) / (1 + Z95**2 / total)
    half = Z95 * math.sqrt(share * (1 - share) / total + Z95**2 / (4 * total**2)) / (1 + Z95**2 / total)
    # In exact arithmetic the ends are 0 and 1 there; rounding would leave 1e-17 of them.
    return Estimate(share, 0.0 if share == 0 else centre - half, 1.0 if share == 1 else centre + half)


def average_at_k(samples: Mapping[str, Sequence[float]]) -> SampledEstimate:
    """avg@k: the mean over problems of each problem's mean over its k samples (1 or 0 each, by problem id).

    The interval is Wilson's at the effective number of problems, that is of independent answers with the same
    standard error (Franco et al. 2019, J. Surv. Stat. Methodol. 7:334): plain Wilson for k = 1, never an empty one.
    In simulations of 30 problems of very different difficulty it holds the truth in 93 to 95 % of cases.

    Raises:
        PairingError: there are no problems, or they differ in their number of samples.
    """
    return _over_problems(problem_means(samples), num_samples(samples))


def pass_at_k(samples: Mapping[str, Sequence[float]], k: int) -> SampledEstimate:
    """pass@k: the chance that one of k samples is right, from n >= k samples of which c are right.

    Unbiased: 1 - C(n-c, k) / C(n, k) for each problem (Chen et al. 2021, arXiv 2107.03374, eq. 1). The interval is that
    of :func:`average_at_k`.

    Raises:
        ValueError: k is not from 1 to n, a sample is neither 0 nor 1, or (PairingError) n differs.
    """
    n = num_samples(samples)
    if not 1 <= k <= n:
        raise ValueError(f"pass@k with k={k} from {n} samples of each problem; accepted: k from 1 to {n}")
    _check_binary(samples)
    # C(n-c, k) of the C(n, k) ways to choose k samples hold no right one. Python's whole numbers: no float overflows.
    chance = {name: 1 - math.comb(n - round(sum(rights)), k) / math.comb(n, k) for name, rights in samples.items()}
    return _over_problems(chance, n)


def num_samples(samples: Mapping[str, Sequence[float]]) -> int:
    """How many samples every problem has.

    Raises:
        PairingError: there are no problems, or they differ; the text names one.
    """
    counts = {name: len(values) for name, values in samples.items()}
    if not counts:
        raise PairingError("there are no problems to average over")
    most = max(counts.values())
    short = [name for name, count in counts.items() if count != most]
    if short:
        raise PairingError(
            f"problem {short[0]!r} has {counts[short[0]]} samples and others have {most} ({len(short)} problems have "
            "fewer); every problem needs the same number"
        )
    return most


def problem_means(samples: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Each problem's mean over its samples.

    Raises:
        PairingError: problems differ in their number of samples.
    """
    num_samples(samples)
    return {name: sum(values) / len(values) for name, values in samples.items()}


def macro_average(suite: Suite) -> Estimate:
    """Unweighted mean of benchmark accuracies with the interval of a stratified mean, cut at 0 and 1."""
    # Mean over B benchmarks; its variance is that of the sum of B independent means: sum_b s_b^2 / n_b / B^2.
    mean, error = _stratified([np.array(list(values.values()), dtype=float) for values in suite.values()])
    return Estimate(mean, max(0.0, mean - Z95 * error), min(1.0, mean + Z95 * error))


def paired_difference(ours: Suite, theirs: Suite, seed: int = 0, draws: int = 10_000) -> Difference:
    """Difference of two macro averages over the SAME problems, with the p-value of a sign-flip permutation test.

    Under the null hypothesis the sign of each problem's difference is random, within each benchmark (Fisher's
    randomisation test for pairs); the p-value has the +1 correction, so that it is never 0 (Phipson and Smyth 2010).
    The interval is normal with the stratified standard error of the paired differences. In simulations of the paper's
    suite it holds the truth in 94.9 % of cases, a stratified paired bootstrap in 94.0 %: resampling n problems
    understates their variance by (n-1)/n, which tells where 30 problems weigh as much as 1,319.

    Raises:
        PairingError: benchmarks or problems differ; the text names what is missing.
    """
    deltas = align(ours, theirs)
    mean, error = _stratified(deltas)
    # scipy's permutation_test(permutation_type="samples") agrees, but holds all draws of all problems in memory at once
    # (10,000 x 2,564 floats for the paper's suite: 200 MB) and samples other signs from a seed, which changes p-values.
    generator = np.random.default_rng(seed)
    flipped = np.zeros(draws)
    for delta in deltas:
        nonzero = delta[delta != 0]  # a sign changes nothing at 0, and most problems are answered alike by both
        signs = generator.integers(0, 2, size=(draws, len(nonzero)), dtype=np.int8) * 2 - 1
        flipped += signs @ nonzero / (len(delta) * len(deltas))
    # p = (1 + #{|flipped| >= |mean|}) / (1 + draws). Sums of the same numbers in another order differ by rounding, and
    # count as equal: hence the tolerance.
    p_value = (1 + int(np.sum(np.abs(flipped) >= abs(mean) - 1e-12))) / (1 + draws)
    return Difference(mean, mean - Z95 * error, mean + Z95 * error, p_value, error)


def mcnemar(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Discordance:
    """McNemar's exact test on one benchmark, each problem right (1) or wrong (0), by problem id.

    Under the null hypothesis a problem that only one side solves is as likely either side's, so that their numbers are
    binomial; the p-value is twice the smaller tail, at most 1 (McNemar 1947; Agresti 2002, section 10.1).

    Raises:
        ValueError: a value is neither 0 nor 1, or (PairingError) problems differ.
    """
    for side in (ours, theirs):
        _check_binary({name: [value] for name, value in side.items()})
    [delta] = align({"": ours}, {"": theirs})
    better, worse = int(np.sum(delta > 0)), int(np.sum(delta < 0))
    return Discordance(better, worse, len(delta), _sign_test(better, worse))


def _sign_test(better: int, worse: int) -> float:
    if better + worse == 0:
        return 1.0  # no problem tells the two apart; a binomial of no trials is not defined in scipy
    from scipy import stats  # 0.6 s, which commands that only plan need not wait for

    # p = min(1, 2 P(X <= min(b, c))) with X ~ Binomial(b + c, 1/2). The chi-squared approximation (b - c)^2 / (b + c)
    # is wrong for few discordant problems, as the 30 of AIME have.
    return float(stats.binomtest(better, better + worse, 0.5).pvalue)


def align(ours: Suite, theirs: Suite) -> list[NDArray[np.float64]]:
    """Of each benchmark the differences ours - theirs, paired by problem id.

    Raises:
        PairingError: benchmarks or problems differ, or there are none; the text names what is missing.
    """
    _check_same("benchmarks", ours, theirs)
    if not ours:
        raise PairingError("a paired comparison needs at least one benchmark")
    deltas = []
    for bench, values in ours.items():
        _check_same(f"problems of {bench}" if bench else "problems", values, theirs[bench])
        deltas.append(np.array([value - theirs[bench][name] for name, value in values.items()], dtype=float))
    return deltas


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values of many comparisons, adjusted by Holm (1979): with any dependence between them, the chance of even one
    false alarm among those below ``ALPHA`` stays below it."""
    # scipy has no Holm; statsmodels' multipletests is equal, but takes a second to import and is 65 MB.
    adjusted: dict[str, float] = {}
    # p~_(i) = max over j <= i of min(1, (m - j + 1) p_(j)), p-values in rising order (Holm 1979, Scand. J. Stat. 6:65).
    # The running maximum keeps the order: no comparison is adjusted below one with a smaller p-value.
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def minimum_detectable_effect(standard_error: float, power: float = POWER) -> float:
    """The true difference that a two-sided test at ``ALPHA`` finds with probability ``power``, given the standard error
    of the measured one: (z(0.975) + z(power)) standard errors. The smallest one that can be significant at all
    is 1.96 standard errors; a true difference of that size is found every other time (``power=0.5``)."""
    return (Z95 + NormalDist().inv_cdf(power)) * standard_error


def paired_error(num_problems: Mapping[str, int], discordance: Mapping[str, float]) -> float:
    """The standard error to expect of a paired difference of macro averages, to plan with.

    ``discordance`` is the share of problems of each benchmark that one of the two models alone solves. The variance of
    one problem's difference is that share, less the squared difference of the accuracies, which is left out.
    """
    # A problem's difference is 1, 0 or -1: E[d^2] is the share of discordant problems, E[d]^2 a few thousandths of it.
    return _planned_error(num_problems, discordance)


def unpaired_error(num_problems: Mapping[str, int], accuracy: Mapping[str, float]) -> float:
    """The standard error of the difference of two macro averages, were both measured on problems of their own."""
    # Var(x - y) = p (1 - p) + p (1 - p) for two independent answers: no pairing takes the problems' difficulty away.
    return _planned_error(num_problems, {name: 2 * share * (1 - share) for name, share in accuracy.items()})


def _planned_error(num_problems: Mapping[str, int], variance: Mapping[str, float]) -> float:
    _check_same("benchmarks", num_problems, variance)
    return math.sqrt(sum(variance[name] / count for name, count in num_problems.items())) / len(num_problems)


def _over_problems(means: Mapping[str, float], num_samples: int) -> SampledEstimate:
    """The mean over problems, with Wilson's interval at the effective number of problems."""
    values = np.array(list(means.values()))
    count, mean = len(values), float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    # n_eff = p (1 - p) / SE^2: so many independent answers have this standard error.
    # (count - 1) / count makes this exactly `count` where values are 0 or 1. No sample counts more than once.
    effective = mean * (1 - mean) / (error**2 * (count - 1) / count) if error > 0 else count
    effective = min(effective, count * num_samples)
    interval = wilson(mean * effective, effective)
    return SampledEstimate(mean, interval.low, interval.high, error, num_samples)


def _stratified(strata: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Mean of the strata's means, and its standard error: sqrt(sum of s^2 / n over strata) / number of strata."""
    # ddof=1: the variance of all problems that a benchmark could have had is estimated from those that it has.
    means = [float(values.mean()) for values in strata]
    variances = [float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0 for values in strata]
    return float(np.mean(means)), math.sqrt(sum(variances)) / len(strata)


def _check_binary(samples: Mapping[str, Sequence[float]]) -> None:
    for name, values in samples.items():
        for value in values:
            if value not in (0, 1):
                raise ValueError(f"problem {name!r} has the value {value}; accepted: 0 or 1")


def _check_same(what: str, ours: Collection[str], theirs: Collection[str]) -> None:
    """Refuse two sides that do not name the same things."""
    for missing, side in ((set(theirs) - set(ours), "first"), (set(ours) - set(theirs), "second")):
        if missing:
            some = ", ".join(sorted(missing)[:3]) + (", ..." if len(missing) > 3 else "")
            raise PairingError(
                f"the {side} side lacks {len(missing)} {what} that the other has ({some}); a paired comparison needs "
                "the same benchmarks and problems on both sides"
            )
