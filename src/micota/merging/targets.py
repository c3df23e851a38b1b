"""Search for the merge that is best for a target, on the grid or by evolution, with a number of merges that is given.

A search asks for several merges at once, so that an engine and a student take turns rarely.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from micota.errors import ConfigError
from micota.merging.calibrate import Reading

Weights = float | tuple[float, ...]  # one for all layers, or one for each block of layers
Setting = tuple[float, Weights]  # density and weight
MeasureAll = Callable[[Sequence[Setting]], list[Reading]]
FIRST_STEP = 0.2  # standard deviation of the first merges around the middle one, as a share of the range of weights
DIGITS = 4  # of a weight: other machines then find the same merges by their keys, whatever their last bits


@dataclass(frozen=True)
class Target:
    """What a merge is chosen for.

    Args:
        name: as in ``merge.target``.
        bound: the least accuracy of a merge, from 0 to 1.
    """

    name: str
    bound: float = 0.0

    def cost(self, reading: Reading) -> tuple[float, ...]:
        """Less is better, compared number by number; merges with equal numbers go by their length."""
        missing = max(0.0, self.bound - reading.accuracy)
        if self.name == "accuracy":
            return missing, -reading.accuracy, reading.num_tokens
        if reading.value is None:  # nothing to learn from
            return missing, math.inf, reading.num_tokens
        return missing, reading.value if self.name == "student_bpc" else -reading.value, reading.num_tokens

    def chosen(self, readings: Sequence[Reading]) -> Reading:
        """The best of ``readings``.

        Raises:
            ConfigError: none is accurate enough.
        """
        best = min(readings, key=self.cost)
        if best.accuracy < self.bound:
            raise ConfigError(
                f"no merge reaches the accuracy {self.bound:.3f} that merge_sweep.accuracy_loss leaves; the nearest is "
                f"{best.accuracy:.3f} at density {best.density:g} and weight {best.weight:g}. Raise "
                "merge_sweep.accuracy_loss, or measure other merge_sweep.weights"
            )
        return best


def minimise(
    measure: MeasureAll, target: Target, densities: Sequence[float], weights: Sequence[float], num_steps: int
) -> list[Reading]:
    """Measure the grid, then ``num_steps`` more weights for each density, each halfway from the best of the density to
    a neighbour: the farther one, or of two as far the better. Returns all readings."""
    readings = measure([(density, weight) for density in densities for weight in sorted(set(weights))])
    for _ in range(num_steps):
        settings = [
            middle
            for density in densities
            if (middle := _between([one for one in readings if one.density == density], target)) is not None
        ]
        if not settings:
            break
        readings += measure(settings)
    return readings


def _between(curve: Sequence[Reading], target: Target) -> Setting | None:
    """The merge between the best of one density and a neighbour; None where there is no neighbour."""
    curve = sorted(curve, key=lambda reading: reading.weight)
    best = min(range(len(curve)), key=lambda index: target.cost(curve[index]))
    beside = [curve[index] for index in (best - 1, best + 1) if 0 <= index < len(curve)]
    if not beside:
        return None
    # The farther first: beside a bound on accuracy, the optimum lies towards the neighbour that breaks it.
    other = min(
        beside, key=lambda reading: (-round(abs(reading.weight - curve[best].weight), DIGITS), target.cost(reading))
    )
    return curve[best].density, round((curve[best].weight + other.weight) / 2, DIGITS)


def evolve(
    measure: MeasureAll, target: Target, density: float, middle: float, num_blocks: int, num_points: int, seed: int
) -> list[Reading]:
    """Measure ``num_points`` merges whose blocks have weights from 0 to 1, by CMA-ES (Hansen, arXiv 1604.00772).

    The first merge has the weight ``middle`` in all blocks, as plain interpolation. CMA-ES uses the order of costs
    alone, so a cost of several numbers needs no weights between them.

    Returns:
        All readings.
    """
    import cma  # imported here: it takes 0.3 s

    random = np.random.RandomState(seed)
    readings = measure([(density, (round(middle, DIGITS),) * num_blocks)])
    with _from(random):
        options = {"bounds": [0, 1], "verbose": -9, "seed": np.nan, "maxfevals": num_points}
        strategy = cma.CMAEvolutionStrategy([middle] * num_blocks, FIRST_STEP, options)
    while len(readings) < num_points:
        with _from(random):
            asked: list[Any] = strategy.ask()
        wanted = [tuple(round(float(value), DIGITS) for value in weights) for weights in asked]
        found = measure([(density, weights) for weights in wanted[: num_points - len(readings)]])
        readings += found
        if len(found) == len(asked):
            costs = [target.cost(reading) for reading in found]
            ranks = sorted(set(costs))
            with _from(random):
                strategy.tell(asked, [ranks.index(cost) for cost in costs])
    return readings


@contextmanager
def _from(random: np.random.RandomState) -> Iterator[None]:
    """Let cma, which draws from numpy's global generator, draw from ``random``: training between two generations would
    change what it draws, so that a run that goes on would look for other merges."""
    before = np.random.get_state()
    np.random.set_state(random.get_state())
    try:
        yield
    finally:
        random.set_state(np.random.get_state())
        np.random.set_state(before)
