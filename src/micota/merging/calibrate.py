"""Search, by bracketing, the most accurate weight and density whose answers have a target length."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from micota.errors import ConfigError


@dataclass(frozen=True)
class Reading:
    """The measurements of a merge: accuracy from 0 to 1, and mean tokens of an answer (both over seeds).

    ``weight`` is the mean over layers where ``by_layer`` has the values by layer. ``value`` is what the student
    measured, if it did.
    """

    density: float
    weight: float
    accuracy: float
    num_tokens: float
    value: float | None = None
    by_layer: list[dict[str, Any]] | None = None


Measure = Callable[[float, float], Reading]  # at density and weight


def calibrate(
    measure: Measure,
    target_tokens: float,
    before: Reading,
    after: Reading,
    densities: Sequence[float],
    weights: Sequence[float],
    tolerance: float,
    num_steps: int,
) -> tuple[Reading, list[Reading]]:
    """Find the most accurate merge whose answers have ``target_tokens``, within ``tolerance`` (a share of it).

    For each density all weights are measured first: length need not rise with weight, so it may cross the target more
    than once. Bisection then narrows each crossing, the most accurate first, until one of its readings is within the
    tolerance or ``num_steps`` weights were tried for the density.

    Args:
        before: the reading of the TA before SFT, used at weight 0 of every density.
        after: the reading of the TA after SFT, used at weight 1.

    Returns:
        The chosen reading (within the tolerance the most accurate, then the nearest in length), and all readings.

    Raises:
        ConfigError: no reading is within the tolerance.
    """
    readings: list[Reading] = []
    for density in densities:
        curve = [measure(density, weight) for weight in sorted(set(weights))]
        readings += curve
        # Weight 0 is the TA before SFT at any density. Weight 1 is the TA after SFT only at density 1, but it is
        # near enough to bracket a target beyond the last point.
        ends = [Reading(density, 0.0, before.accuracy, before.num_tokens), *curve]
        if curve[-1].weight < 1:
            ends.append(Reading(density, 1.0, after.accuracy, after.num_tokens))
        readings += _narrow(measure, target_tokens, ends, tolerance, num_steps)
    fitting = [reading for reading in readings if _error(reading, target_tokens) <= tolerance]
    if not fitting:
        nearest = min(readings, key=lambda reading: _error(reading, target_tokens))
        raise ConfigError(
            f"no merge within {tolerance:.0%} of {target_tokens:.0f} tokens (before SFT "
            f"{before.num_tokens:.0f}, after it {after.num_tokens:.0f}); the nearest is {nearest.num_tokens:.0f} at "
            f"density {nearest.density:g} and weight {nearest.weight:g}. Change merge.target_length_ratio, or raise "
            "merge_sweep.tolerance or merge_sweep.num_steps"
        )
    chosen = max(fitting, key=lambda reading: (reading.accuracy, -_error(reading, target_tokens)))
    return chosen, readings


def _narrow(measure: Measure, target: float, curve: list[Reading], tolerance: float, num_steps: int) -> list[Reading]:
    """Bisect between neighbours on both sides of the target, pairs of higher accuracy first."""
    pairs = [
        pair for pair in itertools.pairwise(curve) if (pair[0].num_tokens - target) * (pair[1].num_tokens - target) < 0
    ]
    pairs.sort(key=lambda pair: -min(reading.accuracy for reading in pair))
    readings: list[Reading] = []
    for left, right in pairs:
        while len(readings) < num_steps and min(_error(left, target), _error(right, target)) > tolerance:
            # Bisection needs no slope; noise of a hundred answers would hide it.
            middle = measure(left.density, round((left.weight + right.weight) / 2, 6))
            readings.append(middle)
            crossed = (left.num_tokens - target) * (middle.num_tokens - target) <= 0
            left, right = (left, middle) if crossed else (middle, right)
    return readings


def _error(reading: Reading, target: float) -> float:
    return abs(reading.num_tokens - target) / target
