"""Runs of the training stage, and what tests compare of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import AutoModelForCausalLM

from micota import graph
from micota.artifacts.store import Store
from micota.config import Config
from micota.records import Example
from micota.runtime.launch import launch
from micota.runtime.work import Work
from micota.stages import train
from micota.tracking import NoRun

TRAINING = [
    "experiment=tiny", "tracker=none", "data=strong", "select.num_examples=null", "select.filters=[]",
    "student.sft.batch_size=4", "student.sft.epochs=2", "student.sft.learning_rate=1e-3",
    "trainer.pack_length=64", "trainer.micro_batch_rows=1", "trainer.attention=auto", "trainer.checkpoint_every=1",
]  # fmt: skip
Prepared = Callable[..., Config]


class Curve:
    """Records the progress that it receives."""

    def __init__(self) -> None:
        self.total = 0
        self.metrics: list[dict[str, float]] = []

    def begin(self, total: int) -> None:
        self.total = total

    def step(self, metrics: Mapping[str, float], step: int) -> None:
        self.metrics.append(dict(metrics))

    @property
    def losses(self) -> list[float]:
        return [metrics["train/loss"] for metrics in self.metrics if "train/loss" in metrics]


def rows(count: int = 40) -> list[Example]:
    generator = random.Random(0)
    return [
        Example(
            problem_id=f"p{number}",
            messages=[{"role": "user", "content": f"Ana has {number % 10} pens:+{number % 7} mod 10?"}],
            completion="\n".join(
                f"{number % 10}+{step}={(number + step) % 10}." for step in range(generator.randrange(1, 6))
            ),
            num_tokens=0,
            source="strong",
        )
        for number in range(count)
    ]


def fitted(config: Config) -> tuple[Path, Curve]:
    """The model of ``config``, made in this process or by several ranks, and the curve of its loss."""
    node, store, curve = graph.trained(config, "student"), Store(config.artifacts), Curve()
    with store.build(node, config.seed) as build:
        assert build is not None
        if config.trainer.world_size > 1:
            launch(config, node, build, curve, "micota.stages.train")
        else:
            train.fit_here(Work(config, store, node, build, NoRun(), Console(quiet=True)), curve)
    return store.path(node), curve


def fitted_until(config: Config, step: int) -> None:
    """Interrupt training after a step."""

    class Interrupts(Curve):
        def step(self, metrics: Mapping[str, float], step_done: int) -> None:
            if step_done == step:
                raise KeyboardInterrupt

    node, store = graph.trained(config, "student"), Store(config.artifacts)
    with store.build(node, config.seed) as build:
        assert build is not None
        train.fit_here(Work(config, store, node, build, NoRun(), Console(quiet=True)), Interrupts())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    state: dict[str, torch.Tensor] = model.state_dict()
    return state


def assert_same(first: Path, second: Path, tolerance: float = 0.0) -> None:
    left, right = weights(first), weights(second)
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=0, atol=tolerance)
