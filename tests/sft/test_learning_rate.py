"""Schedules of the learning rate, against those of transformers and against formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import get_scheduler

from micota.config import SftConfig
from micota.config.schedules import SCHEDULES
from micota.sft.learning_rate import learning_rate_factor

TOTAL, WARMUP = 40, 8


def sft(**settings: Any) -> SftConfig:
    return SftConfig(learning_rate=1.0, batch_size=1, epochs=1, **{"warmup_steps": WARMUP, **settings})


def factors(settings: SftConfig, total: int = TOTAL) -> list[float]:
    return [learning_rate_factor(step, total, settings) for step in range(total)]


def of_transformers(name: str, **special: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = get_scheduler(name, optimizer, WARMUP, TOTAL, scheduler_specific_kwargs=special)
    rates = []
    for _ in range(TOTAL):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("settings", "name", "special"),
    [
        ({}, "cosine", {}),
        ({"schedule": "linear"}, "linear", {}),
        ({"schedule": "constant"}, "constant_with_warmup", {}),
        ({"min_learning_rate_ratio": 0.1}, "cosine_with_min_lr", {"min_lr_rate": 0.1}),
        (
            {"schedule": "linear", "min_learning_rate_ratio": 0.25},
            "polynomial",
            {"lr_end": 0.25, "power": 1.0},
        ),
        (
            {"schedule": "stable_decay", "decay_ratio": 0.25},
            "warmup_stable_decay",
            {"num_decay_steps": 8, "decay_type": "linear", "num_stable_steps": 24},
        ),
    ],
)
def test_after_warm_up_schedules_are_those_of_transformers(
    settings: dict[str, Any], name: str, special: dict[str, Any]
) -> None:
    assert factors(sft(**settings))[WARMUP:] == pytest.approx(of_transformers(name, **special)[WARMUP:])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_rises_from_above_zero_to_one_and_then_a_schedule_starts_at_one(schedule: str) -> None:
    rates = factors(sft(schedule=schedule))
    assert rates[:WARMUP] == pytest.approx([(step + 1) / WARMUP for step in range(WARMUP)])
    assert rates[WARMUP] == 1.0 and rates[WARMUP:] == sorted(rates[WARMUP:], reverse=True) and rates[-1] > 0


def test_a_share_of_warm_up_is_rounded_up_to_steps() -> None:
    assert factors(sft(warmup_steps=None, warmup_ratio=0.16), 10) == factors(sft(warmup_steps=2), 10)
    assert factors(sft(warmup_steps=0))[0] == 1.0
    assert factors(sft(warmup_steps=20), 10) == pytest.approx([(step + 1) / 20 for step in range(10)])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"warmup_ratio": 0.1}, "warmup_steps=8 with warmup_ratio=0.1; accepted: warmup_ratio=0 with it"),
        ({"schedule": "constant", "min_learning_rate_ratio": 0.1}, "with schedule=constant, which does not fall"),
        ({"decay_ratio": 0.5}, "decay_ratio=0.5 is of schedule=stable_decay, and this is cosine"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], complaint: str) -> None:
    [line] = sft(**settings).conflicts()
    assert complaint in line
