"""The table of learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from micota.config.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How the learning rate changes after warm-up.

    Args:
        name: as in ``sft.schedule``.
        factor: the share of the highest learning rate, from the share of the steps after warm-up that are done (0 to
            below 1) and ``sft.decay_ratio``. It starts at 1.
        falls: whether it falls, so that ``sft.min_learning_rate_ratio`` applies.
        has_decay: whether ``sft.decay_ratio`` applies.
    """

    name: str
    factor: Callable[[float, float], float]
    falls: bool = True
    has_decay: bool = False


SCHEDULES: Registry[Schedule] = Registry("schedule")


def _cosine(progress: float, decay: float) -> float:
    """Half a cosine (Loshchilov & Hutter 2017, arXiv 1608.03983)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def _linear(progress: float, decay: float) -> float:
    return 1 - progress


def _constant(progress: float, decay: float) -> float:
    return 1.0


def _stable_decay(progress: float, decay: float) -> float:
    """Constant, then linear to 0 over the last ``decay`` of the steps (warmup-stable-decay, arXiv 2404.06395)."""
    return min(1.0, (1 - progress) / decay)


SCHEDULES.add(Schedule(name="cosine", factor=_cosine))
SCHEDULES.add(Schedule(name="linear", factor=_linear))
SCHEDULES.add(Schedule(name="constant", factor=_constant, falls=False))
SCHEDULES.add(Schedule(name="stable_decay", factor=_stable_decay, has_decay=True))
