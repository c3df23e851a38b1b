"""The examples of every optimiser step: at random, by length, or by a mixture that moves over training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from micota.config.curriculum import AT, LONG_TO_SHORT, MIXTURE, RANDOM, CurriculumConfig
from micota.errors import ConfigError


def ordered(
    curriculum: CurriculumConfig,
    steps: list[list[int]],
    lengths: Sequence[int],
    sources: Sequence[str],
    seed: int,
    expected: int | None = None,
) -> list[list[int]]:
    """The same number of steps of the same sizes in the order of a curriculum.

    Args:
        steps: indices of units (examples, or packs of them) at random, as of ``splits.schedule``.
        lengths: tokens of each unit. ``sources``: the part of the data that each is from.
        expected: the steps that a budget is expected to pay for, where it ends the run before its last step.

    Raises:
        ConfigError: a point names a part that the data lacks.
    """
    if curriculum.order == RANDOM:
        return steps
    if curriculum.order == MIXTURE:
        return _mixed(curriculum, steps, sources, seed, expected or len(steps))
    per_epoch = -(-len(lengths) // max(1, len(steps[0]))) if steps else 1
    # A run of less than an epoch is sorted as a whole: else it would never see one end of the lengths.
    chunk = min(per_epoch, expected or len(steps))
    sign = -1 if curriculum.order == LONG_TO_SHORT else 1
    result: list[list[int]] = []
    for start in range(0, len(steps), chunk):
        part = steps[start : start + chunk]
        units = iter(sorted((unit for step in part for unit in step), key=lambda unit: sign * lengths[unit]))
        result += [[next(units) for _ in step] for step in part]
    return result


def _mixed(
    curriculum: CurriculumConfig, steps: list[list[int]], sources: Sequence[str], seed: int, expected: int
) -> list[list[int]]:
    """Each place of a step goes to the part that is furthest behind its share so far; parts repeat in new orders."""
    names = sorted({name for point in curriculum.points for name in point if name != AT})
    pools: dict[str, list[int]] = {name: [] for name in names}
    for unit, source in enumerate(sources):
        if source in pools:
            pools[source].append(unit)
    for name, pool in pools.items():
        if not pool:
            raise ConfigError(
                f"sft.curriculum.points names {name!r}, and no example is of it; accepted: "
                f"{', '.join(sorted(set(sources)))}"
            )
    generator = np.random.default_rng([seed, 2])  # apart from the streams of the order and of the validation split
    queues: dict[str, list[int]] = {name: [] for name in names}
    owed = dict.fromkeys(names, 0.0)
    result = []
    for index, step in enumerate(steps):
        shares = shares_at(curriculum, names, index / max(1, expected - 1))
        chosen = []
        for _ in step:
            for name in names:
                owed[name] += shares[name]
            name = max(names, key=lambda each: owed[each])
            owed[name] -= 1
            if not queues[name]:
                queues[name] = [pools[name][place] for place in generator.permutation(len(pools[name]))]
            chosen.append(queues[name].pop())
        result.append(chosen)
    return result


def shares_at(curriculum: CurriculumConfig, names: Sequence[str], place: float) -> dict[str, float]:
    """The share of each part at a share of training, linear between points."""
    places = [point[AT] for point in curriculum.points]
    return {
        name: float(np.interp(place, places, [point.get(name, 0.0) for point in curriculum.points])) for name in names
    }
