"""The cost of single stages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from micota import graph
from micota.artifacts.store import Store
from micota.costs import stages
from micota.costs.context import Context, Estimate
from micota.costs.machine import machine_of
from micota.costs.targets import targets
from micota.graph.teachers import TARGETS

CUT = ["trainer.activation_checkpointing=full", "trainer.check_memory=false"]


def trained(composed: Callable[..., Any], folder: Path, *overrides: str) -> Estimate:
    config = composed("train", "student=qwen1.5b", "data=strong", "hardware=h100x1", *CUT, *overrides)
    context = Context(machine_of(config), Store(folder), config, {})
    return stages.train(context, graph.trained(config, "student"))


def test_a_teacher_costs_its_forward_passes_and_its_weights(composed: Callable[..., Any], tmp_path: Path) -> None:
    alone = trained(composed, tmp_path)
    taught = trained(composed, tmp_path, "objective=logit_kd", "objective.teacher=ta_merged")  # of 14.8 billion weights
    assert taught.memory - alone.memory == 2 * 14_770_033_664
    # 2 FLOPs a weight of the teacher and token, against 6 a weight of the student.
    assert 2.5 < (taught.flops - alone.flops) / alone.flops < 3.7
    assert taught.seconds > 2 * alone.seconds
    assert not taught.problems


def test_a_teacher_of_unknown_size_is_named(composed: Callable[..., Any], tmp_path: Path) -> None:
    taught = trained(composed, tmp_path, "objective=logit_kd", "objective.teacher=a/b")
    assert taught.problems == ("b: its size is not known; set shape in its YAML, or download it first",)


def test_a_stored_teacher_costs_disk_and_no_memory(composed: Callable[..., Any], tmp_path: Path) -> None:
    words = ["objective=logit_kd", "objective.teacher=ta_merged", "objective.top_k=64", "objective.stored=float16"]
    alone, taught = trained(composed, tmp_path), trained(composed, tmp_path, *words)
    assert (taught.memory, taught.flops, taught.seconds) == (alone.memory, alone.flops, alone.seconds)
    config = composed("train", "student=qwen1.5b", "data=strong", "hardware=h100x1", *CUT, *words)
    node = graph.trained(config, "student").inputs[TARGETS]
    found = targets(Context(machine_of(config), Store(tmp_path), config, {}), node)
    beside = trained(composed, tmp_path, *words[:3])
    assert 2 * 14e9 < found.memory < 40e9 and found.flops == pytest.approx((beside.flops - alone.flops) / 3, rel=0.1)
    made = Context(machine_of(config), Store(tmp_path), config, {}).examples(node.inputs["data"])
    assert found.disk == pytest.approx(made.count * made.tokens * (64 * 4 + 65 * 2))
