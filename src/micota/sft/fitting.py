"""Checks before training that memory and disk hold a run, with changes that would make it fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from micota.config import SftConfig, TrainerConfig
from micota.errors import ConfigError
from micota.sft import device
from micota.sft.kinds import ALONE, ORDER
from micota.sft.memory import memory_bytes, most_tokens, stored_bytes
from micota.sft.shape import Shape

USABLE = 0.95  # share of a device's memory: the allocator fragments it


def check_memory(
    shape: Shape,
    sft: SftConfig,
    trainer: TrainerConfig,
    longest: int,
    limits: Mapping[str, int],
    capacity: int | None = None,
    host: int | None = None,
) -> None:
    """Refuse a run that is unlikely to fit the memory.

    Args:
        longest: tokens of the longest example.
        limits: of :func:`most_tokens`.
        capacity: bytes of a device; by default what this one has.
        host: bytes of the machine that are free; by default what this one has.

    Raises:
        ConfigError: the text has the estimate, the available memory, and changes that would make it fit.
    """
    usable = int(USABLE * (device.device_bytes(trainer) if capacity is None else capacity))
    if not trainer.check_memory:
        return
    complaint = too_large(shape, sft, trainer, longest, limits, usable) or too_large_for_host(shape, sft, trainer, host)
    if complaint:
        raise ConfigError(f"{complaint}; or trainer.check_memory=false to try all the same")


def too_large(
    shape: Shape,
    sft: SftConfig,
    trainer: TrainerConfig,
    longest: int,
    limits: Mapping[str, int],
    usable: int,
    *,
    with_parts: bool = True,
) -> str | None:
    """The estimate of a run that needs more than ``usable`` bytes of a device, and changes that would make it fit;
    None for a run that fits."""
    parts = memory_bytes(shape, trainer, longest, limits)
    if sum(parts.values()) <= usable:
        return None
    trainer = replace(trainer, activation_checkpointing=[*limits][-1])
    ways = [
        words for words, other in _ways(trainer, longest) if sum(memory_bytes(shape, other, longest).values()) <= usable
    ][:2]
    ways += ["sft.lora.r=16 (adapters)"] if sft.lora is None else []
    listing = ", ".join(f"{name} {gib(count)}" for name, count in parts.items() if count)
    each = "each GPU" if trainer.accelerator == "gpu" else "each process"
    of_what = f" ({listing})" if with_parts else ""
    return (
        f"training needs about {gib(sum(parts.values()))} GiB on {each}{of_what}, "
        f"and {gib(usable)} GiB can be used; what would help: {'; '.join(ways)}"
    )


def too_large_for_host(shape: Shape, sft: SftConfig, trainer: TrainerConfig, host: int | None = None) -> str | None:
    """What ``trainer.cpu_offload`` needs of the machine's memory, if it is more than is free; else None.

    Args:
        host: free bytes of the machine; by default what this one has.
    """
    if not trainer.cpu_offload:
        return None
    import psutil

    parts = {name: count // trainer.num_nodes for name, count in stored_bytes(shape, trainer).items()}
    usable = int(USABLE * (psutil.virtual_memory().available if host is None else host))
    if sum(parts.values()) <= usable:
        return None
    listing = ", ".join(f"{name} {gib(count)}" for name, count in parts.items())
    ways = ["trainer.cpu_offload=false on more GPUs", "sft.lora.r=16 (adapters)"][: 1 if sft.lora else 2]
    return (
        f"trainer.cpu_offload=true keeps about {gib(sum(parts.values()))} GiB in the machine's memory ({listing}), and "
        f"{gib(usable)} GiB can be used; what would help: {'; '.join(ways)}"
    )


def fewest_devices(shape: Shape, trainer: TrainerConfig, longest: int, capacity: int, most: int) -> int:
    """The fewest devices (1, 2, 4, ... up to ``most``) over which training fits their memory, or else ``most``.

    Args:
        longest: tokens of the longest example.
        capacity: bytes of a device.
    """
    if trainer.evaluate_every is not None or trainer.quantize != "none":  # which several devices cannot
        return 1
    counts = [1 << power for power in range(most.bit_length())] or [1]
    counts = [count for count in counts if count % trainer.context_parallel == 0] or [trainer.context_parallel]
    for count in counts:
        tried = replace(trainer, devices=count)
        limits = most_tokens(shape, tried, longest, capacity)
        if sum(memory_bytes(shape, tried, longest, limits).values()) <= USABLE * capacity:
            return count
    return counts[-1]


def _ways(trainer: TrainerConfig, longest: int) -> Iterator[tuple[str, TrainerConfig]]:
    """Changes that save memory, cheapest first; those after checkpointing add to it and the smallest micro-batches."""
    used = ORDER.index(trainer.activation_checkpointing)
    for kind in (kind for kind in ALONE if ORDER.index(kind) > used):
        yield f"trainer.activation_checkpointing={kind}", replace(trainer, activation_checkpointing=kind)
    if trainer.gradient_reduction == "step" and trainer.world_size > 1:
        trainer = replace(trainer, gradient_reduction="micro_batch")
        yield "trainer.gradient_reduction=micro_batch", trainer
    least = replace(trainer, activation_checkpointing="full")
    small = replace(least, micro_batch_rows=1, pack_length=min(trainer.pack_length, longest))
    if (small.micro_batch_rows, small.pack_length) != (trainer.micro_batch_rows, trainer.pack_length):
        words = (
            f"trainer.micro_batch_rows=1 trainer.pack_length={small.pack_length} trainer.activation_checkpointing=full"
        )
        yield words, small
    if trainer.accelerator == "gpu":
        for devices in (2, 4, 8, 16):
            if devices > trainer.num_devices:
                yield f"trainer=fsdp trainer.devices={devices}", replace(small, devices=devices)
    if trainer.accelerator == "gpu" and not trainer.cpu_offload:
        yield "trainer.cpu_offload=true", replace(small, cpu_offload=True)


def disk_bytes(shape: Shape, trainer: TrainerConfig, written: int, *, keeps_best: bool = False) -> int:
    """Space for checkpoints and export in bytes.

    Two checkpoints exist for a moment when one replaces the other. Each has the trained weights and the states of the
    optimiser. With ``keeps_best`` the best weights of up to three validations exist too, and models of single steps
    where their number is bounded. ``written`` is the size in bytes of an exported weight.
    """
    stored = stored_bytes(shape, trainer)  # gradients are as large as trained weights
    models = 1 if trainer.keep_models is None else trainer.keep_models + 2  # one more while a new one is written
    best = 3 * stored["gradients"] * keeps_best
    return 2 * (stored["gradients"] + stored["optimiser"]) + best + models * written * shape.weights


def check_disk(
    folder: Path, shape: Shape, trainer: TrainerConfig, free: int, written: int, *, keeps_best: bool = False
) -> None:
    """Refuse to start if the checkpoints and the export would not fit on the disk.

    Raises:
        ConfigError: the text has the folder, the needed and the free space.
    """
    needed = disk_bytes(shape, trainer, written, keeps_best=keeps_best)
    if needed > free:
        raise ConfigError(
            f"{folder}: checkpoints and export need {gib(needed)} GiB and {gib(free)} GiB are free; "
            "free some space, or choose another disk with artifacts=FOLDER"
        )


def gib(count: int) -> str:
    """Bytes in GiB as text."""
    return f"{count / 2**30:.1f}" if count >= 2**28 else f"{count / 2**30:.3f}"
