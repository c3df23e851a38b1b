"""Seconds and memory of training and of generation, from the sizes of a model and the numbers of a machine.

Training takes 6 FLOPs a weight and token (Kaplan et al. 2020, arXiv 2001.08361; PaLM, arXiv 2204.02311, appendix B),
and with all activations computed again 8 (Korthikanti et al. 2022, arXiv 2205.05198), at an assumed share of the peak.

A step of generation reads all weights and the keys and values of all sequences once, and multiplies: it takes the
longer of the two (the roofline, Williams et al. 2009; for inference Pope et al. 2022, arXiv 2211.05102). Prompts are
read at an assumed share of the peak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from micota.config import EngineConfig, ShapeConfig, TrainerConfig
from micota.costs.machine import Machine
from micota.sft.kinds import PARTS, mixture_of
from micota.sft.shape import Shape

ENOUGH, SEQUENCE = 32, 4096  # sequences at a time with which a GPU is used well, and their tokens
WORKSPACE = 2 * 2**30  # bytes on each GPU besides weights and cache, in an engine
LOADING = 1.5e9  # bytes of weights a second from disk to device
TAIL = 3  # the longest completion of a batch is this many times the mean, or the limit
REPEATED = {"none": 0.0, "selective": 0.05, "full": 1 / 3}  # of the arithmetic, by activation checkpointing


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What a batch of completions takes. ``batch`` is 0 where the weights leave no space for one sequence."""

    seconds: float
    flops: float
    batch: int
    memory: int  # bytes on each device


def generation(
    machine: Machine, engine: EngineConfig, shape: Shape, count: int, prompt: float, tokens: float, most: int
) -> Generation:
    """Seconds, FLOPs and memory of ``count`` completions of ``tokens`` each, after prompts of ``prompt`` tokens.

    Args:
        most: the most tokens of a completion.
    """
    parts = engine.parts if machine.accelerator == "gpu" else 1
    copies = engine.ray.workers if engine.ray is not None else 1
    share = machine.hf if engine.name == "hf" else machine.decode
    stored = 4 if engine.dtype == "float32" or machine.accelerator == "cpu" else 2
    weights = shape.weights * stored
    cache = 2 * shape.num_layers * shape.key_value * stored  # bytes of keys and values of one token
    sequence = int((prompt + tokens) * cache)
    fraction = engine.memory_fraction if engine.name != "hf" else 0.95
    space = parts * (machine.memory_bytes * fraction - (WORKSPACE if machine.accelerator == "gpu" else 0)) - weights
    batch = min(engine.rows, math.ceil(count / copies), max(0, int(space // max(1, sequence))))
    one = weights // parts + WORKSPACE * (machine.accelerator == "gpu") + max(1, batch) * sequence // parts
    context = prompt + tokens / 2
    each = 2 * (shape.linear + shape.head) + 4 * shape.num_layers * shape.attention * context
    flops = count * (prompt * 2 * shape.linear + tokens * each)

    def step(rows: int) -> float:
        read = (weights + rows * context * cache) / (machine.bandwidth * parts * share)
        multiplied = rows * each / (machine.peak_flops * parts * share)
        return max(read, multiplied)

    rows = max(1, batch)
    decoding = count / copies * tokens / rows * step(rows)
    tail = max(0.0, min(most, TAIL * tokens) - tokens) * step(1)  # the last sequences run alone
    prefill = count / copies * prompt * 2 * shape.linear / (machine.peak_flops * parts * machine.prefill)
    return Generation(seconds=decoding + tail + prefill + weights / LOADING, flops=flops, batch=batch, memory=int(one))


def fewest_parts(shape: ShapeConfig, engine: EngineConfig, memory: int, most: int) -> int:
    """The fewest GPUs (1, 2, 4, ... up to ``most``) over which the weights leave space for ``ENOUGH`` sequences of
    ``SEQUENCE`` tokens, or else the most over which the heads divide.

    Args:
        memory: bytes of one GPU.
    """
    sizes = Shape.from_config(shape)
    stored = 4 if engine.dtype == "float32" else 2
    cache = ENOUGH * SEQUENCE * 2 * sizes.num_layers * sizes.key_value * stored
    counts = [n for n in (1, 2, 4, 8) if n <= most and shape.heads % n == 0] or [1]
    space = memory * engine.memory_fraction - WORKSPACE
    return next((n for n in counts if n * space >= sizes.weights * stored + cache), counts[-1])


def training_seconds(machine: Machine, trainer: TrainerConfig, flops: float, kind: str) -> float:
    """Seconds of training with this much arithmetic, with what activation checkpointing repeats on top."""
    mixture = mixture_of(kind)
    heavy = mixture.parts / PARTS
    repeated = (1 - heavy) * REPEATED[mixture.light] + heavy * REPEATED[mixture.heavy]
    return flops * (1 + repeated) / (machine.peak_flops * trainer.world_size * machine.training)


def forward_seconds(machine: Machine, shape: Shape, tokens: float) -> tuple[float, float]:
    """Seconds and FLOPs of forward passes over ``tokens`` tokens on one device."""
    flops = 2.0 * (shape.linear + shape.head) * tokens
    return flops / (machine.peak_flops * machine.prefill) + 2 * shape.weights / LOADING, flops
