"""The learning rate of each step: linear warm-up, then one of the schedules."""

from __future__ import annotations

import math

from micota.config import SftConfig
from micota.config.schedules import SCHEDULES


def learning_rate_factor(step: int, total: int, sft: SftConfig) -> float:
    """The learning rate of a step over ``sft.learning_rate``.

    Warm-up starts above 0 and reaches 1 in its last step. After it the rate falls from 1 towards
    ``sft.min_learning_rate_ratio``, which it would reach after the last step.

    Args:
        step: finished steps before this one.
        total: steps of the run.
    """
    warmup = warmup_steps(total, sft)
    if step < warmup:
        return (step + 1) / warmup
    schedule = SCHEDULES[sft.schedule]
    factor = schedule.factor((step - warmup) / max(1, total - warmup), sft.decay_ratio)
    lowest = sft.min_learning_rate_ratio
    return lowest + (1 - lowest) * factor


def warmup_steps(total: int, sft: SftConfig) -> int:
    """Steps of warm-up."""
    return math.ceil(total * sft.warmup_ratio) if sft.warmup_steps is None else sft.warmup_steps
