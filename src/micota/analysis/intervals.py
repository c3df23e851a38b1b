"""Confidence intervals of means over problems, whose values lie between known bounds. All values are fractions.

Small benchmarks and accuracies near 0 or 1 are the difficult cases: the sample then often lacks the rare problems that
determine the truth, and an interval from the sample's variance alone is too short.
``benchmarks/interval_coverage.py`` measures how often each interval holds the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05  # two-sided, of every test, label and interval
RARE = 0.2  # problems' worth of prior evidence that values near a bound are all or nothing (chosen by simulation)
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def quantile(alpha: float, freedom: float = math.inf) -> float:
    """Return the two-sided ``1 - alpha`` quantile of Student's t with that many degrees of freedom (inf: normal)."""
    from scipy import special  # imported here: it takes 0.2 s, which commands that only plan do not need

    normal = float(special.ndtri(1 - alpha / 2))
    # Above 1e6 degrees both agree to 6 digits; stdtrit loses accuracy for very many.
    return normal if freedom > 1e6 else float(special.stdtrit(freedom, 1 - alpha / 2))


def wilson(correct: float, total: float, alpha: float = ALPHA) -> Estimate:
    """Return the share of ``correct`` in ``total`` with Wilson's score interval (Wilson 1927), valid for small
    benchmarks too."""
    if total == 0:
        return Estimate(math.nan, math.nan, math.nan)
    # The ends are the p that solve |share - p| = z sqrt(p (1 - p) / n). The error is that of the true p. That of the
    # share would be 0 if all answers are right (Wilson 1927, J. Am. Stat. Assoc. 22:209).
    # scipy's binomtest is equal but takes whole numbers only. statsmodels takes others, but its ends miss 0 and 1 by a
    # rounding error at some totals, and it is 65 MB.
    z = quantile(alpha)
    share = correct / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / (1 + z**2 / total)
    # In exact arithmetic these ends are 0 and 1; rounding would leave an error of 1e-17.
    return Estimate(share, 0.0 if share == 0 else centre - half, 1.0 if share == 1 else centre + half)


def bounded_mean(values: Values, alpha: float = ALPHA) -> Estimate:
    r"""Return the mean of values from 0 to 1, one per problem, with a score interval that allows for their skewness.

    The ends are the means :math:`\mu` that solve

    .. math:: (\bar x-\mu)^2 = \frac{q^2}{n}\bigl(\rho\bar x(1-\bar x)
        + \kappa(\mu-\bar x) - \rho(\mu-\bar x)^2\bigr),\quad \kappa = (1-2\bar x)\frac{2\rho}{1+\rho}

    :math:`\rho` is the variance of the values as a share of :math:`\bar x(1-\bar x)`, that of all-or-nothing values.
    :math:`\kappa` is how much the variance grows with the mean: third moment by variance, for a beta distribution of
    the values (the same first-order term as in Johnson's modified t, 1978, J. Am. Stat. Assoc. 73:536). For values that
    are all 0 or 1 this is Wilson's interval. Near a bound :math:`\rho` is drawn towards 1 by ``RARE`` problems' worth
    of evidence (as Agresti and Coull 1998 add answers), since rare problems at the other bound are often missing.
    """
    count, mean = len(values), float(values.mean())
    spread = mean * (1 - mean)
    variance = float(values.var())
    # If all values are equal, nothing is known of their distribution, and the longest interval is right.
    share = min(1.0, variance / spread) if variance > 1e-14 * spread else 1.0
    # The variance of all-or-nothing values is determined by their mean and has no error of its own; that of other
    # values is estimated with count - 1 degrees of freedom.
    q = quantile(alpha, (count - 1) / max(1 - share, 1e-9) if count > 1 else math.inf)
    evidence = abs(2 * mean - 1) ** 4 * RARE / (count * spread + RARE)
    share += (1 - share) * evidence
    slope = (1 - 2 * mean) * 2 * share / (1 + share)
    scale = 1 + share * q**2 / count
    shift = slope * q**2 / (2 * count) / scale
    half = math.sqrt(shift**2 + share * spread * q**2 / count / scale)
    # No values vary more than those that are all or nothing, so neither end goes beyond Wilson's; with a few problems,
    # Student's quantile would.
    widest = wilson(mean * count, count, alpha)
    low = 0.0 if mean == 0 else max(0.0, widest.low, mean + shift - half)
    return Estimate(mean, low, 1.0 if mean == 1 else min(1.0, widest.high, mean + shift + half))


def paired_mean(deltas: Values, alpha: float = ALPHA) -> Estimate:
    r"""Return the mean of paired differences from -1 to 1, one per problem, with its interval.

    It is Student's interval, together with all :math:`\delta` that the fewest possible discordant problems could have
    given: :math:`(\bar d-\delta)^2 \le q^2\rho\,|\delta|(1-|\delta|)/n`, with :math:`\rho=\sum d^2/\sum|d|` (1 for
    single answers). A difference of :math:`\delta` needs at least a share :math:`|\delta|` of discordant problems, so
    the variance is not below that of the bound (the idea of Tango's score interval, 1998, Stat. Med. 17:891). So no
    interval is empty: two models that agree on all of 16 problems may still differ by up to 19 points.
    """
    count, mean = len(deltas), float(deltas.mean())
    q = quantile(alpha, count - 1) if count > 1 else math.inf
    half = q * float(deltas.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    total = float(np.abs(deltas).sum())
    share = float((deltas**2).sum()) / total if total else 1.0
    reach = share * quantile(alpha) ** 2 / count
    # The roots of (m - x)^2 = reach x (1 - x), for m = |mean|, on the side of the mean; on both sides if it is 0.
    centre = (abs(mean) + reach / 2) / (1 + reach)
    width = math.sqrt(max(0.0, centre**2 - mean**2 / (1 + reach)))
    near, far = centre - width, centre + width
    if mean == 0:
        near = -far
    low, high = (near, far) if mean >= 0 else (-far, -near)
    return Estimate(mean, max(-1.0, min(low, mean - half)), min(1.0, max(high, mean + half)))


def combined(estimates: Sequence[Estimate]) -> Estimate:
    """Return the unweighted mean of independent estimates, with the interval that follows from theirs.

    Each side is the root of the sum of squared half-widths on that side, by their number (MOVER: Zou and Donner 2008,
    Stat. Med. 27:1693). It keeps the asymmetry of its parts, is never empty if they are not, and never leaves their
    range. For one estimate it is its own interval.
    """
    if len(estimates) == 1:  # exactly its interval, without rounding
        return estimates[0]
    mean = sum(one.value for one in estimates) / len(estimates)
    below = math.sqrt(sum((one.value - one.low) ** 2 for one in estimates)) / len(estimates)
    above = math.sqrt(sum((one.high - one.value) ** 2 for one in estimates)) / len(estimates)
    return Estimate(mean, mean - below, mean + above)


def agreeing(estimate: Estimate, p_value: float) -> Estimate:
    """Return the interval of a tested difference so that it excludes 0 exactly where the test rejects 0.

    An interval and a test by different methods disagree where p is close to ``ALPHA``. The test decides: the interval
    is extended to 0, or its end beyond 0 is cut off there (an open end: the smallest number above 0).
    """
    low, high = estimate.low, estimate.high
    if p_value >= ALPHA:
        low, high = min(low, 0.0), max(high, 0.0)
    elif estimate.value > 0:
        low = max(low, math.ulp(0.0))
    else:
        high = min(high, -math.ulp(0.0))
    return Estimate(estimate.value, low, high)
