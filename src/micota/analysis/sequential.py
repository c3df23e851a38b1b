r"""Group-sequential tests: looks at a paired difference after each seed, at one error rate for all looks together.

The estimates :math:`D_1, D_2, \dots` after 1, 2, ... seeds are means over the same problems. With variance
:math:`B` between problems and :math:`W` of one seed, :math:`\mathrm{Cov}(D_j, D_k) = (B + W/k)/n = \mathrm{Var}(D_k)`
for :math:`j \le k`. So they have independent increments of information :math:`I_k = 1/\mathrm{Var}(D_k)`, which is what
group-sequential boundaries need (Jennison and Turnbull 2000, *Group Sequential Methods*, section 3.1). Information
grows slower than the number of seeds, since more seeds are not more problems.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from micota.analysis.intervals import ALPHA
from micota.analysis.statistics import Difference, PairingError, corrected, holm, stratified
from micota.config.stopping import OBRIEN_FLEMING, POCOCK

LEAST_STEP = 1e-3  # of information; at a look that adds less, no error is spent
FARTHEST = 12.0  # standard errors; a boundary beyond is never crossed
NODES = 200  # of the integration between two boundaries; a boundary then has 4 digits
Deltas = Sequence[NDArray[np.float64]]  # differences of the problems, by benchmark


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is known after some of the planned seeds.

    ``fraction`` is the information so far as a share of that after all seeds, ``z`` the standardised difference,
    ``boundary`` the size of ``z`` that decides. ``chance`` is the conditional power: that of a decision at the last
    look if the difference is what it seems now.
    """

    seeds: int
    planned: int
    fraction: float
    z: float
    boundary: float
    chance: float
    futile_below: float = 0.0

    @property
    def decision(self) -> str | None:
        """``better``, ``worse``, ``futile`` (a decision is unlikely), or None: go on."""
        if abs(self.z) >= self.boundary:
            return "better" if self.z > 0 else "worse"
        return "futile" if self.seeds < self.planned and self.chance < self.futile_below else None


def spent(fraction: float, alpha: float, spending: str) -> float:
    """Return the part of a two-sided error rate ``alpha`` that is spent at a share of the information.

    Each side spends half (Lan and DeMets 1983, Biometrika 70:659): ``obrien_fleming`` 2 - 2 Phi(z(1 - alpha/4) /
    sqrt(t)) a side, ``pocock`` alpha/2 ln(1 + (e - 1) t).
    """
    from scipy import special  # imported here: it takes 0.2 s, which commands that only plan do not need

    if fraction >= 1:
        return alpha
    if spending == POCOCK:
        return alpha * math.log1p((math.e - 1) * fraction)
    return float(4 * special.ndtr(special.ndtri(alpha / 4) / math.sqrt(fraction)))


def boundaries(fractions: Sequence[float], alpha: float = ALPHA, spending: str = OBRIEN_FLEMING) -> list[float]:
    """Return the sizes of z at which a two-sided test ends, one for each look.

    Args:
        fractions: shares of the information at the looks, above 0 and at most 1, that never fall.

    Returns:
        Sizes of z; ``inf`` at a look that spends no error.

    Raises:
        ValueError: the fractions fall, or are not above 0 and at most 1.
    """
    if any(not 0 < low <= high <= 1 for low, high in zip([*fractions[:1], *fractions], fractions, strict=False)):
        raise ValueError(f"fractions={list(fractions)}; accepted: numbers above 0 and at most 1 that never fall")
    process = _Process(alpha, spending)
    return [process.look(fraction) for fraction in fractions]


@functools.cache
def _gauss() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return nodes and weights of the Gauss-Legendre rule on [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return nodes, weights


class _Process:
    """The score process S(t) = Z(t) sqrt(t), as far as no boundary was crossed: its density on a grid.

    Armitage, McPherson and Rowe 1969, J. R. Stat. Soc. A 132:235, integrated by Gauss-Legendre.
    """

    def __init__(self, alpha: float, spending: str) -> None:
        self._alpha, self._spending = alpha, spending
        self._time = 0.0
        self._spent = 0.0
        self._points = np.zeros(1)
        self._mass = np.ones(1)  # density by weight of the grid; at time 0 all at 0

    def look(self, time: float) -> float:
        """Move on to ``time`` and return the boundary there: the error that is due is the chance to cross it first."""
        from scipy import optimize

        step, due = time - self._time, spent(time, self._alpha, self._spending)
        error = due - self._spent
        if step < LEAST_STEP or self._exceeds(FARTHEST * math.sqrt(time), step) >= error:
            return math.inf
        if self._exceeds(0.0, step) <= error:  # at a rate near 1 everything is decided
            return 0.0
        limit = float(
            optimize.brentq(lambda size: self._exceeds(size, step) - error, 0.0, FARTHEST * math.sqrt(time), xtol=1e-9)
        )
        nodes, weights = _gauss()
        points = limit * nodes
        distances = (points[:, None] - self._points[None, :]) / math.sqrt(step)
        density = (np.exp(-(distances**2) / 2) @ self._mass) / math.sqrt(2 * math.pi * step)
        self._time, self._spent, self._points, self._mass = time, due, points, density * weights * limit
        return limit / math.sqrt(time)

    def _exceeds(self, limit: float, step: float) -> float:
        from scipy import special

        scale = math.sqrt(step)
        beyond = special.ndtr((-limit - self._points) / scale) + special.ndtr((self._points - limit) / scale)
        return float(beyond @ self._mass)


def looks(
    by_seed: Sequence[Deltas], planned: int, alpha: float = ALPHA, spending: str = OBRIEN_FLEMING, futile: float = 0.0
) -> list[Look]:
    """Return the looks at a paired difference after 1, 2, ... seeds, up to the first that decides.

    Args:
        by_seed: the differences of the problems at each finished seed, in the order of the plan.
        planned: the number of seeds of the plan.
        alpha: the two-sided error rate of all looks together.
        futile: end also where the conditional power is below this. It only lowers the error rate (non-binding).

    Raises:
        PairingError: there are more seeds than planned.
    """
    if len(by_seed) > planned:
        raise PairingError(f"{len(by_seed)} seeds are finished, of {planned} planned")
    process = _Process(alpha, spending)
    found: list[Look] = []
    fraction = 0.0
    for count in range(1, len(by_seed) + 1):
        stacked = [np.stack(of_seeds) for of_seeds in zip(*by_seed[:count], strict=True)]
        fraction = max(fraction, _fraction(stacked, planned))
        z = _z([values.mean(axis=0) for values in stacked])
        look = Look(
            seeds=count,
            planned=planned,
            fraction=fraction,
            z=z,
            boundary=process.look(fraction),
            chance=conditional_power(z, fraction, alpha),
            futile_below=futile,
        )
        found.append(look)
        if look.decision:
            break
    return found


def _fraction(stacked: Deltas, planned: int) -> float:
    """Return the share of the information; ``stacked`` are differences by benchmark, as [seeds, problems]."""
    count = len(stacked[0])
    if count >= planned:
        return 1.0
    # Var(D_k) = sum over benchmarks of (B + W/k) / n, so the information at k of K seeds is
    # (B + W/K) / (B + W/k) of that at K: from k/K (all variance is of seeds) to 1 (none is).
    now = stratified([values.mean(axis=0) for values in stacked])[1] ** 2
    if now == 0 or count == 1:  # one seed does not tell W; the least information spends least
        return count / planned
    of_seed: float = (
        sum(float(values.var(axis=0, ddof=1).mean()) / values.shape[1] for values in stacked) / len(stacked) ** 2
    )
    share = 1 - of_seed * (1 / count - 1 / planned) / now
    return min(1 - LEAST_STEP, max(float(share), count / planned))


def _z(deltas: Deltas) -> float:
    """Return the standardised mean: the normal quantile of the p-value of Welch's t over benchmarks."""
    from scipy import special

    mean, error = stratified(deltas)
    if error == 0:
        return 0.0
    parts = [float(values.var(ddof=1)) / len(values) / len(deltas) ** 2 for values in deltas if len(values) > 1]
    # Welch-Satterthwaite: (sum v)^2 / sum v^2 / (n - 1), v the variance of each benchmark's mean.
    spread = [part**2 / (len(values) - 1) for part, values in zip(parts, deltas, strict=False)]
    freedom = sum(parts) ** 2 / sum(spread)
    size = -float(special.ndtri(special.stdtr(freedom, -abs(mean) / error)))
    return math.copysign(min(size, FARTHEST), mean)


def conditional_power(z: float, fraction: float, alpha: float = ALPHA) -> float:
    """Return the chance that the last look decides, if the true difference is the one observed.

    Its boundary is taken as that of a test with one look: Phi((|z| / sqrt(t) - z(1 - alpha/2)) / sqrt(1 - t)) (Lan and
    Wittes 1988, Biometrics 44:579).
    """
    from scipy import special

    needed = -float(special.ndtri(alpha / 2))
    if fraction >= 1:
        return float(abs(z) >= needed)
    # E[Z(1) | Z(t) = z] = z sqrt(t) + theta (1 - t), drift theta = z / sqrt(t): together z / sqrt(t).
    return float(special.ndtr((abs(z) / math.sqrt(fraction) - needed) / math.sqrt(1 - fraction)))


def repeated_p_value(found: Sequence[Look], spending: str = OBRIEN_FLEMING) -> float:
    """Return the smallest error rate at which the last look decides (Jennison and Turnbull 2000, section 9.3).

    It holds whatever the reason to stop, and is at most ``alpha`` exactly where ``abs(z)`` reaches the boundary at that
    rate.
    """
    from scipy import optimize

    fractions, z = [look.fraction for look in found], abs(found[-1].z)

    def excess(log_alpha: float) -> float:
        return min(boundaries(fractions, math.exp(log_alpha), spending)[-1], 2 * FARTHEST) - z

    low, high = math.log(1e-12), 0.0
    if excess(high) >= 0:
        return 1.0
    return math.exp(low if excess(low) <= 0 else float(optimize.brentq(excess, low, high, xtol=1e-4)))


def simultaneous(
    differences: Mapping[str, Difference], found: Mapping[str, Sequence[Look]], spending: str = OBRIEN_FLEMING
) -> dict[str, Difference]:
    """Return differences with p-values and intervals that hold jointly, whenever each recipe ended.

    p-values are :func:`repeated_p_value` by Holm, intervals repeated confidence intervals at Bonferroni's level: those
    of :func:`micota.analysis.intervals.paired_mean`, as wide as the boundary of the last look.
    """
    from scipy import special

    p_values = holm({name: repeated_p_value(found[name], spending) for name in differences})
    level = ALPHA / max(1, len(differences))
    result = {}
    for name, difference in differences.items():
        boundary = boundaries([look.fraction for look in found[name]], level, spending)[-1]
        nominal = 2 * float(special.ndtr(-min(boundary, FARTHEST / 2)))
        result[name] = corrected(difference, p_values[name], nominal)
    return result
