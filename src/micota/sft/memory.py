"""An estimate of the memory of a device in training, and what follows from it: the kind of activation checkpointing
and when gradients are summed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace

from micota.config import TrainerConfig
from micota.sft import device
from micota.sft.activations import generating, held
from micota.sft.kinds import ORDER, with_mixtures
from micota.sft.shape import Shape

PROCESS_BYTES = {"cpu": 700 * 2**20, "gpu": 2**30}  # libraries on CPU, CUDA context and kernels' workspace on GPU
# The choices of ``activation_checkpointing=auto``. On CPU, fragmentation by malloc uses up the memory that selective
# checkpointing saves.
AUTOMATIC = {"cpu": ("none", "full"), "gpu": ORDER}
COMPILED = with_mixtures("selective", "full")  # a compiled layer computes again at least what selective does
# Of a weight: 4 bits, 8 of the scale of each 64 weights, and 32 of the scale of each 256 such scales.
NF4_BYTES = 1 / 2 + 1 / 64 + 4 / (64 * 256)
COMFORTABLE = 0.8  # an estimate below this share is trusted; above it a kind that needs less memory is chosen


def memory_bytes(
    shape: Shape, trainer: TrainerConfig, longest: int, limits: Mapping[str, int] | None = None
) -> dict[str, int]:
    """An estimate of the memory of one device in bytes, by use.

    Args:
        longest: tokens of the longest example.
        limits: of :func:`most_tokens`; optional if ``trainer.activation_checkpointing`` is not ``auto``.
    """
    limits = most_tokens(shape, trainer, longest) if limits is None else limits
    passes = [held(shape, trainer, kind_for(size, limits), size) for size in _sizes(trainer, longest)]
    largest: dict[str, int] = max([*passes, generating(shape, trainer)], key=_total)
    kept = 0 if trainer.cpu_offload else 1
    stored = stored_bytes(shape, trainer)
    shards = {name: kept * count // trainer.world_size for name, count in stored.items()}
    if trainer.is_sharded and trainer.gradient_reduction == "step":
        # Each device sums whole gradients, on the device even with offloading, and shards them in the last backward.
        shards["gradients"] = stored["gradients"]
    computed = 4 if trainer.precision == "32-true" else 2
    other = {"teacher": computed * shape.teacher.weights} if shape.teacher else {}
    if trainer.accelerator == "cpu" and (copied := checkpoint_copy(shape, trainer)):
        other["checkpoint"] = copied // trainer.world_size
    return {**shards, **largest, **other, "process": PROCESS_BYTES[trainer.accelerator]}


def gradient_reduction(
    shape: Shape, trainer: TrainerConfig, longest: int, limits: Mapping[str, int], capacity: int | None = None
) -> str:
    """``step`` or ``micro_batch``: as chosen, or for ``auto`` the first if it leaves enough memory.

    Args:
        longest: tokens of the longest example.
        limits: of :func:`most_tokens`, which are not changed for it: more recomputation would cost more than is gained.
        capacity: bytes of a device; by default what this one has.
    """
    if trainer.gradient_reduction != "auto":
        return trainer.gradient_reduction
    each, once = (replace(trainer, gradient_reduction=kind) for kind in ("micro_batch", "step"))
    needs = [sum(memory_bytes(shape, other, longest, limits).values()) for other in (each, once)]
    available = COMFORTABLE * (device.device_bytes(trainer) if capacity is None else capacity)
    return "step" if needs[1] <= max(needs[0], available) else "micro_batch"


def _total(parts: Mapping[str, int]) -> int:
    return sum(parts.values())


def stored_bytes(shape: Shape, trainer: TrainerConfig) -> dict[str, int]:
    """Bytes of weights, gradients and optimiser states of all devices together. They are in the machine's memory with
    ``trainer.cpu_offload``."""
    held = 2 if trainer.precision == "bf16-true" else 4
    adapters = 4 * shape.adapters
    quantised = 0 if trainer.quantize == "none" else shape.linear
    return {
        "weights": held * (shape.weights - shape.adapters - quantised) + int(NF4_BYTES * quantised) + adapters,
        "gradients": held * (shape.trained - shape.adapters) + adapters,
        "optimiser": 2 * shape.moment_bytes * shape.trained,
    }


def checkpoint_bytes(shape: Shape, trainer: TrainerConfig) -> int:
    """Bytes of a checkpoint: of trained weights, which are as large as their gradients, and of their moments."""
    stored = stored_bytes(shape, trainer)
    return stored["gradients"] + stored["optimiser"]


def checkpoint_copy(shape: Shape, trainer: TrainerConfig) -> int:
    """Bytes of the machines' memory that hold a copy of a checkpoint while it is written, of all devices together. A
    GPU's states are copied there in any case, and others where training goes on meanwhile."""
    is_copied = trainer.async_checkpoints or (trainer.accelerator == "gpu" and not trainer.cpu_offload)
    return checkpoint_bytes(shape, trainer) if is_copied else 0


def _sizes(trainer: TrainerConfig, longest: int) -> tuple[int, int]:
    """Tokens of a full micro-batch on one device, and of the largest: an example that is longer than a row takes a
    longer row."""
    full, largest = (
        size * trainer.micro_batch_rows for size in (trainer.pack_length, max(trainer.pack_length, longest))
    )
    return -(-full // trainer.context_parallel), -(-largest // trainer.context_parallel)


def kind_for(num_tokens: int, most_tokens: Mapping[str, int]) -> str:
    """The first kind that admits a micro-batch of this size, or else the last.

    Args:
        most_tokens: the largest micro-batch of each kind, in the order of ``kinds.ORDER``, from
            :func:`most_tokens`.
    """
    return next((kind for kind, most in most_tokens.items() if num_tokens <= most), [*most_tokens][-1])


def most_tokens(shape: Shape, trainer: TrainerConfig, longest: int, capacity: int | None = None) -> dict[str, int]:
    """The largest micro-batch, in tokens, of each kind of activation checkpointing.

    With ``auto`` a full micro-batch uses the first kind whose estimate is at most ``COMFORTABLE`` of the memory. A
    larger one uses the first kind with which it needs no more memory than a full one.

    Args:
        longest: tokens of the longest example.
        capacity: bytes of a device; by default what this one has.
    """
    full, largest = _sizes(trainer, longest)
    if trainer.activation_checkpointing != "auto":
        return {trainer.activation_checkpointing: largest}
    available = COMFORTABLE * (device.device_bytes(trainer) if capacity is None else capacity)
    limits: dict[str, int] = {}
    kinds = COMPILED if trainer.compile else AUTOMATIC[trainer.accelerator]
    for kind in kinds:
        memory_of_full = _total(held(shape, trainer, kind, full))
        for other in kinds:
            limits[other] = _most(shape, trainer, other, memory_of_full, 4 * largest)
        if sum(memory_bytes(shape, trainer, longest, limits).values()) <= available:
            break
    needed = kind_for(largest, limits)
    used = {kind: most for kind, most in limits.items() if ORDER.index(kind) <= ORDER.index(needed)}
    return {kind: most for kind, most in used.items() if most or kind == needed}


def _most(shape: Shape, trainer: TrainerConfig, kind: str, count: int, end: int) -> int:
    """The most tokens, of those below ``end``, whose pass needs at most ``count`` bytes; 0 if there are none."""
    return bisect_right(range(1, end), count, key=lambda size: _total(held(shape, trainer, kind, size)))
