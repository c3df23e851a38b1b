"""Where a gap between two recipes changes its sign over the size of the student, with an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from micota.analysis.statistics import Suite, align

RESAMPLES = 2000
Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """The largest size at which the gap crosses 0, a straight line over the logarithm between two sizes.

    ``size`` is None if it does not cross; ``rises`` says whether the gap of the largest student is above 0. ``share``
    of the resamples of problems cross, in this direction where the gap itself does, and ``low`` and ``high`` are 95 %
    of their crossings (the sizes of students bound them; NaN without any). All sizes are in the unit of the input.
    """

    size: float | None
    low: float
    high: float
    share: float
    rises: bool


def crossing(suites: Mapping[float, tuple[Suite, Suite]], seed: int = 0) -> Crossing:
    """Return the crossing of the gap, the first suite minus the second, of students by size.

    The interval is a percentile bootstrap over problems. A resample has the same problems for every student and both
    recipes, so that the difficulty of problems cancels.

    Raises:
        PairingError: the suites do not have the same problems.
    """
    sizes = sorted(suites)
    base = suites[sizes[0]][0]
    for pair in suites.values():
        for suite in pair:
            align(base, suite)
    by_bench = [
        np.array([[suites[size][0][b][p] - suites[size][1][b][p] for p in base[b]] for size in sizes]) for b in base
    ]
    curve = np.mean([values.mean(axis=1) for values in by_bench], axis=0)
    rng = np.random.default_rng(seed)
    resampled = np.mean([_resampled_means(values, rng) for values in by_bench], axis=0)
    size, rises = _last_crossing(sizes, curve), bool(curve[-1] > 0)
    every = [(_last_crossing(sizes, one), one[-1] > 0) for one in resampled]
    same = [found for found, up in every if found is not None and (size is None or up == rises)]
    low, high = np.quantile(same, [0.025, 0.975]) if same else (math.nan, math.nan)
    return Crossing(size=size, low=float(low), high=float(high), share=len(same) / RESAMPLES, rises=rises)


def _resampled_means(values: Values, rng: np.random.Generator) -> Values:
    """Means over resampled problems of (sizes, problems): (resamples, sizes)."""
    num_problems = values.shape[1]
    # How often each problem is in a resample is all that a mean needs.
    counts = rng.multinomial(num_problems, np.full(num_problems, 1 / num_problems), size=RESAMPLES)
    means: Values = counts @ values.T / num_problems
    return means


def _last_crossing(sizes: list[float], curve: Values) -> float | None:
    """The largest size at which a curve changes its sign."""
    for index in range(len(sizes) - 1, 0, -1):
        before, after = curve[index - 1], curve[index]
        if before * after < 0 or (before == 0 and after != 0):
            share = before / (before - after)
            return float(sizes[index - 1] * (sizes[index] / sizes[index - 1]) ** share)
    return None
