"""Schema of a curriculum: which examples come when in training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from micota.config.fields import choice, positive, where

RANDOM, SHORT_TO_LONG, LONG_TO_SHORT, MIXTURE = "random", "short_to_long", "long_to_short", "mixture"
STEERED = "steered"
ROUNDS = 3
AT = "at"  # the share of training at which the shares of a point hold
POINTS = (
    "a list of points, as [{at: 0, short: 0.8, strong: 0.2}, {at: 1, short: 0.2, strong: 0.8}]: at rises from 0 to at "
    "most 1, and the shares of each point, by name of a part, are at least 0 and sum to 1"
)


def are_points(points: list[Any]) -> bool:
    """Whether a list is one of points of a mixture, with at from 0 up."""
    if not all(isinstance(point, dict) and AT in point and len(point) > 1 for point in points):
        return False
    numbers = [value for point in points for value in point.values()]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1 for value in numbers):
        return False
    places = [point[AT] for point in points]
    sums = [sum(value for name, value in point.items() if name != AT) for point in points]
    rises = places == sorted(set(places)) and places[:1] in ([], [0])
    return rises and all(math.isclose(total, 1, abs_tol=1e-6) for total in sums)


@dataclass(kw_only=True)
class CurriculumConfig:
    """The order of examples over training."""

    order: str = choice(
        RANDOM,
        SHORT_TO_LONG,
        LONG_TO_SHORT,
        MIXTURE,
        STEERED,
        default=RANDOM,
        about="random: each epoch in another order; short_to_long, long_to_short: each epoch by the length of its "
        "examples; mixture: by the shares of points; steered: in rounds, each on the completions of the parts of the "
        "data that the student at that point is expected to learn best from.",
        results=True,
        added=True,
    )
    points: list[dict[str, Any]] = where(
        POINTS,
        are_points,
        default_factory=list,
        about="With order=mixture the shares of the parts of the data in training, by the name of the part, at shares "
        "of the training (at); between two points they change linearly.",
        results=True,
        added=True,
    )

    rounds: int = positive(
        ROUNDS,
        about="With order=steered the number of rounds, which share the training equally. Each is a training with a "
        "warm-up and fall of the learning rate and an optimizer that starts anew.",
        unit="rounds",
        results=True,
        added=True,
    )

    def conflicts(self) -> Iterator[str]:
        if self.order != STEERED and self.rounds != ROUNDS:
            yield f"rounds={self.rounds} with order={self.order}; accepted: order={STEERED} with it"
        if (self.order == MIXTURE) != bool(self.points):
            have = f"{len(self.points)} points"
            yield f"order={self.order} with {have}; accepted: order={MIXTURE} with points, or others without"
