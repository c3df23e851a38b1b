"""Seconds and memory by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from micota.config import EngineConfig, ShapeConfig, TrainerConfig
from micota.costs.machine import Machine
from micota.costs.speeds import generation, training_seconds
from micota.sft.shape import Shape

MACHINE = Machine(
    name="m", device="d", accelerator="gpu", num_devices=8, memory_bytes=80 * 2**30, peak_flops=1e15, bandwidth=2e12,
    training=0.4, prefill=0.5, decode=0.5, hf=0.1, is_here=False,
)  # fmt: skip
SHAPE = Shape.from_config(
    ShapeConfig(layers=10, hidden=1024, intermediate=4096, heads=8, kv_heads=2, vocab=32_000, tied=True)
)
VLLM = EngineConfig(name="vllm", batch_size=16)


def test_a_step_of_few_sequences_waits_for_the_memory() -> None:
    found = generation(MACHINE, VLLM, SHAPE, 160, 100, 1000, most=1000)
    cache = 2 * 10 * 256 * 2
    step = (SHAPE.weights * 2 + 16 * 600 * cache) / (2e12 * 0.5)
    prefill = 160 * 100 * 2 * SHAPE.linear / (1e15 * 0.5)
    assert found.batch == 16
    assert found.seconds == pytest.approx(160 * 1000 / 16 * step + prefill + SHAPE.weights * 2 / 1.5e9)


def test_a_step_of_many_sequences_waits_for_the_arithmetic() -> None:
    slow = replace(MACHINE, peak_flops=1e12)
    found = generation(slow, VLLM, SHAPE, 160, 100, 1000, most=1000)
    each = 2 * (SHAPE.linear + SHAPE.head) + 4 * 10 * 1024 * 600
    assert found.seconds == pytest.approx(160 * 1000 * each / 5e11, rel=0.1)
    assert found.flops == pytest.approx(160 * (1000 * each + 100 * 2 * SHAPE.linear))


def test_the_cache_limits_the_batch_and_more_gpus_hold_more() -> None:
    small = replace(MACHINE, memory_bytes=int(2.65 * 2**30))
    one, two = (generation(small, replace(VLLM, tensor_parallel=n), SHAPE, 160, 100, 1000, 1000) for n in (1, 2))
    assert 0 < one.batch < two.batch == 16
    assert generation(replace(small, memory_bytes=2 * 2**30), VLLM, SHAPE, 160, 100, 1000, 1000).batch == 0


def test_long_answers_at_the_end_run_alone() -> None:
    short = generation(MACHINE, VLLM, SHAPE, 16, 100, 1000, most=1000).seconds
    alone = (SHAPE.weights * 2 + 600 * 2 * 10 * 256 * 2) / 1e12
    assert generation(MACHINE, VLLM, SHAPE, 16, 100, 1000, most=9000).seconds == pytest.approx(short + 2000 * alone)


def test_checkpointing_repeats_arithmetic_and_devices_share_it() -> None:
    trainer = TrainerConfig(name="t", accelerator="gpu", precision="bf16-mixed", devices=4, num_nodes=2)
    assert training_seconds(MACHINE, trainer, 3.2e18, "none") == pytest.approx(3.2e18 / (8 * 4e14))
    assert training_seconds(MACHINE, trainer, 3.2e18, "full") == pytest.approx(3.2e18 / (8 * 4e14) * 4 / 3)
