"""Checks before training that memory and disk hold a run, with changes that would make it fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from micota.config import SftConfig, TrainerConfig
from micota.errors import ConfigError
from micota.sft import device
from micota.sft.kinds import ALONE, ORDER
from micota.sft.memory import checkpoint_bytes, checkpoint_copy, memory_bytes, most_tokens, stored_bytes
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
        words
        for words, other in _ways(shape, trainer, longest)
        if sum(memory_bytes(shape, other, longest).values()) <= usable
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
    """What a run needs of the machine's memory beside that of devices, if it is more than is free; else None.

    Args:
        host: free bytes of the machine; by default what this one has. Those of a machine with GPUs are not known on one
            without.
    """
    parts = stored_bytes(shape, trainer) if trainer.cpu_offload else {}
    offloads = bool(parts)
    if trainer.accelerator == "gpu":  # on a CPU the copy is of the process
        parts |= {"copy for checkpoints": checkpoint_copy(shape, trainer)}
    parts = {name: count // trainer.num_nodes for name, count in parts.items() if count}
    host = device.host_bytes(trainer) if host is None and parts else host
    if host is None:
        return None
    usable = int(USABLE * host)
    if sum(parts.values()) <= usable:
        return None
    listing = ", ".join(f"{name} {gib(count)}" for name, count in parts.items())
    ways = ["trainer.async_checkpoints=false"] if offloads and trainer.async_checkpoints else []
    ways += ["trainer.cpu_offload=false on more GPUs"] if offloads else [f"trainer.num_nodes={2 * trainer.num_nodes}"]
    ways += [] if sft.lora else ["sft.lora.r=16 (adapters)"]
    reason = "trainer.cpu_offload=true" if offloads else "training on GPUs"
    return (
        f"{reason} keeps about {gib(sum(parts.values()))} GiB in the machine's memory ({listing}), and "
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


def _ways(shape: Shape, trainer: TrainerConfig, longest: int) -> Iterator[tuple[str, TrainerConfig]]:
    """Changes that save memory, cheapest first; those after checkpointing add to it and the smallest micro-batches."""
    if trainer.async_checkpoints and trainer.accelerator == "cpu":
        trainer = replace(trainer, async_checkpoints=False)
        yield "trainer.async_checkpoints=false", trainer
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
    for parts in (n for n in (2, 4, 8) if trainer.context_parallel < n and _divides(n, shape, trainer)):
        yield f"trainer.context_parallel={parts}", replace(small, context_parallel=parts)
    more = [n for n in (2, 4, 8, 16) if n > trainer.num_devices and trainer.accelerator == "gpu"]
    for devices in more:
        yield f"trainer=fsdp trainer.devices={devices}", replace(small, devices=devices)
    for wide in (replace(small, devices=n, context_parallel=min(n, 8)) for n in more):
        if _divides(wide.context_parallel, shape, wide):
            words = f"trainer=fsdp trainer.devices={wide.devices} trainer.context_parallel={wide.context_parallel}"
            yield words, wide
    if trainer.accelerator == "gpu" and not trainer.cpu_offload:
        yield "trainer.cpu_offload=true", replace(small, cpu_offload=True)


def _divides(parts: int, shape: Shape, trainer: TrainerConfig) -> bool:
    """Whether so many devices can share rows."""
    return trainer.world_size % parts == 0 and shape.heads % parts == 0


def disk_bytes(shape: Shape, trainer: TrainerConfig, written: int, *, keeps_best: bool = False) -> int:
    """Space for checkpoints and export in bytes.

    Two checkpoints exist for a moment when one replaces the other. Each has the trained weights and the states of the
    optimiser. With ``keeps_best`` the best weights of up to three validations exist too, and models of single steps
    where their number is bounded. ``written`` is the size in bytes of an exported weight.
    """
    trained = stored_bytes(shape, trainer)["gradients"]
    models = 1 if trainer.keep_models is None else trainer.keep_models + 2  # one more while a new one is written
    return 2 * checkpoint_bytes(shape, trainer) + 3 * trained * keeps_best + models * written * shape.weights


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
