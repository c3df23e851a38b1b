"""Costs of training: floating-point operations of a step, memory of a device, disk space for checkpoints."""

from __future__ import annotations

import resource
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from micota.config import LoraConfig, SftConfig, ShapeConfig, TrainerConfig
from micota.config.hardware import device_of
from micota.config.optimizers import OPTIMIZERS
from micota.errors import ConfigError
from micota.sft.activations import held, trains_all

KINDS = ("none", "selective", "full")  # of activation checkpointing, in order of falling memory
PROCESS_BYTES = {"cpu": 700 * 2**20, "gpu": 2**30}  # libraries on CPU, CUDA context and kernels' workspace on GPU
USABLE = 0.95  # share of a device's memory: the allocator fragments it
# The choices of ``activation_checkpointing=auto``. On CPU, fragmentation by malloc uses up the memory that selective
# checkpointing saves.
AUTOMATIC = {"cpu": ("none", "full"), "gpu": KINDS}
COMPILED = ("selective", "full")  # a compiled layer computes again at least what selective does
COMFORTABLE = 0.8  # an estimate below this share is trusted; above it a kind that needs less memory is chosen


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of a model on which costs depend; weights are counted in elements."""

    weights: int
    trained: int
    linear: int  # weights of linear layers without the output head
    head: int  # weights of the output head; ``outside`` is this and the embedding, all outside of the layers
    outside: int
    num_layers: int
    hidden: int
    intermediate: int
    attention: int  # heads x size of a head
    key_value: int = 0  # heads of keys (and of values) x size of a head
    moment_bytes: int = 4  # of one of AdamW's two moments of a weight

    @classmethod
    def of(cls, model: Any) -> Shape:
        """The shape of a Hugging Face model, which may be on the meta device."""
        import torch

        config = model.config.get_text_config()
        head = model.get_output_embeddings().weight
        outside = {id(weight): weight.numel() for weight in (head, model.get_input_embeddings().weight)}
        linear = sum(
            m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear) and m.weight is not head
        )
        heads = config.num_attention_heads
        return cls(
            weights=sum(weight.numel() for weight in model.parameters()),
            trained=sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
            linear=linear,
            head=head.numel(),
            outside=sum(outside.values()),
            num_layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            intermediate=getattr(config, "intermediate_size", 4 * config.hidden_size),
            attention=heads * (getattr(config, "head_dim", None) or config.hidden_size // heads),
            key_value=(getattr(config, "num_key_value_heads", None) or heads)
            * (getattr(config, "head_dim", None) or config.hidden_size // heads),
        )

    @classmethod
    def from_config(cls, shape: ShapeConfig, lora: LoraConfig | None = None) -> Shape:
        """The shape of a decoder with gated MLPs from its sizes alone, without torch. Biases and gains of norms, less
        than a thousandth of the weights, are those of Qwen2.

        Args:
            lora: the adapters that are trained instead of all weights.
        """
        head_dim = shape.head_dim or shape.hidden // shape.heads
        attention, key_value = shape.heads * head_dim, shape.kv_heads * head_dim
        sides = {  # input and output of each linear layer
            "q_proj": (shape.hidden, attention), "k_proj": (shape.hidden, key_value),
            "v_proj": (shape.hidden, key_value), "o_proj": (attention, shape.hidden),
            "gate_proj": (shape.hidden, shape.intermediate), "up_proj": (shape.hidden, shape.intermediate),
            "down_proj": (shape.intermediate, shape.hidden),
        }  # fmt: skip
        linear = shape.layers * sum(inner * outer for inner, outer in sides.values())
        vectors = shape.layers * (2 * shape.hidden + attention + 2 * key_value) + shape.hidden
        head = shape.vocab * shape.hidden
        outside = head if shape.tied else 2 * head
        weights = linear + vectors + outside
        trained = weights
        if lora is not None and lora.r is not None:
            trained = sum(
                lora.r * (inner + outer) + outer * lora.dora  # DoRA trains a length for each row
                for layer in range(shape.layers)
                for name, (inner, outer) in sides.items()
                if lora.covers(f"model.layers.{layer}.{'self_attn' if name[0] in 'qkvo' else 'mlp'}.{name}")
            )
            weights += trained
        return cls(
            weights=weights,
            trained=trained,
            linear=linear,
            head=head,
            outside=outside,
            num_layers=shape.layers,
            hidden=shape.hidden,
            intermediate=shape.intermediate,
            attention=attention,
            key_value=key_value,
        )

    def trained_by(self, sft: SftConfig) -> Shape:
        """The shape with the moments of the optimiser of ``sft``. Paged ones leave the device where it is full."""
        kind = OPTIMIZERS[sft.optimizer]
        return replace(self, moment_bytes=0 if kind.is_paged else kind.moment_bytes)

    def flops(self, lengths: Sequence[int], num_supervised: int) -> float:
        """Floating-point operations of a step over sequences of these lengths, forward and backward.

        Two per weight and token forward, four backward (two if weights are frozen), as in PaLM (arXiv 2204.02311,
        appendix B). Two terms differ: the output head counts supervised tokens only, and causal attention half of the
        matrix. Operations that activation checkpointing repeats do not count.
        """
        # A frozen weight has no gradient and only passes one on: 2 forward, 2 backward.
        factor = 6 if self.trained > self.weights / 2 else 4
        dense = self.linear * sum(lengths) + self.head * num_supervised
        # q k^T and the product with v: 2 x 2 length^2 width forward, twice that backward, half of it as it is causal.
        attention = self.num_layers * self.attention * sum(length**2 for length in lengths)
        return float(factor * dense + 6 * attention)


def peak_flops(trainer: TrainerConfig) -> float | None:
    """Peak FLOP/s of one device, if it is known; None on CPU unless ``trainer.peak_tflops`` gives it."""
    if trainer.peak_tflops is not None:
        return trainer.peak_tflops * 1e12
    if trainer.accelerator == "cpu":
        return None
    import torch

    known = device_of(torch.cuda.get_device_name())
    return None if known is None else known.peak_tflops * 1e12


def peak_memory_bytes() -> int:
    """Peak memory of this process so far: of the GPU if there is one, else resident."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    # getrusage counts KiB on Linux and bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


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
    largest: dict[str, int] = max(passes, key=_total)
    kept = 0 if trainer.cpu_offload else 1
    stored = stored_bytes(shape, trainer)
    shards = {name: kept * count // trainer.world_size for name, count in stored.items()}
    if trainer.is_sharded and trainer.gradient_reduction == "step":
        # Each device sums whole gradients, on the device even with offloading, and shards them in the last backward.
        shards["gradients"] = stored["gradients"]
    return {**shards, **largest, "process": PROCESS_BYTES[trainer.accelerator]}


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
    available = COMFORTABLE * (device_bytes(trainer) if capacity is None else capacity)
    return "step" if needs[1] <= max(needs[0], available) else "micro_batch"


def _total(parts: Mapping[str, int]) -> int:
    return sum(parts.values())


def stored_bytes(shape: Shape, trainer: TrainerConfig) -> dict[str, int]:
    """Bytes of weights, gradients and optimiser states of all devices together. They are in the machine's memory with
    ``trainer.cpu_offload``."""
    held = 2 if trainer.precision == "bf16-true" else 4
    trained = held if trains_all(shape) else 4  # adapters are float32
    return {
        "weights": held * (shape.weights - shape.trained) + trained * shape.trained,
        "gradients": trained * shape.trained,
        "optimiser": 2 * shape.moment_bytes * shape.trained,
    }


def _sizes(trainer: TrainerConfig, longest: int) -> tuple[int, int]:
    """Tokens of a full micro-batch, and of the largest: an example that is longer than a row takes a longer row."""
    return trainer.pack_length * trainer.micro_batch_rows, max(trainer.pack_length, longest) * trainer.micro_batch_rows


def kind_for(num_tokens: int, most_tokens: Mapping[str, int]) -> str:
    """The first kind that admits a micro-batch of this size, or else the last.

    Args:
        most_tokens: the largest micro-batch of each kind, in the order of ``KINDS``, from
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
    available = COMFORTABLE * (device_bytes(trainer) if capacity is None else capacity)
    limits: dict[str, int] = {}
    kinds = COMPILED if trainer.compile else AUTOMATIC[trainer.accelerator]
    for kind in kinds:
        memory_of_full = _total(held(shape, trainer, kind, full))
        for other in kinds:
            limits[other] = _most(shape, trainer, other, memory_of_full, 4 * largest)
        if sum(memory_bytes(shape, trainer, longest, limits).values()) <= available:
            break
    needed = kind_for(largest, limits)
    used = {kind: most for kind, most in limits.items() if KINDS.index(kind) <= KINDS.index(needed)}
    return {kind: most for kind, most in used.items() if most or kind == needed}


def _most(shape: Shape, trainer: TrainerConfig, kind: str, count: int, end: int) -> int:
    """The most tokens, of those below ``end``, whose pass needs at most ``count`` bytes; 0 if there are none."""
    return bisect_right(range(1, end), count, key=lambda size: _total(held(shape, trainer, kind, size)))


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
    usable = int(USABLE * (device_bytes(trainer) if capacity is None else capacity))
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
    if trainer.evaluate_every is not None:  # a model in shards generates no answers
        return 1
    counts = [1 << power for power in range(most.bit_length())] or [1]
    for count in counts:
        tried = replace(trainer, devices=count)
        limits = most_tokens(shape, tried, longest, capacity)
        if sum(memory_bytes(shape, tried, longest, limits).values()) <= USABLE * capacity:
            return count
    return counts[-1]


def _ways(trainer: TrainerConfig, longest: int) -> Iterator[tuple[str, TrainerConfig]]:
    """Changes that save memory, cheapest first; those after checkpointing add to it and the smallest micro-batches."""
    for kind in KINDS[KINDS.index(trainer.activation_checkpointing) + 1 :]:
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


def device_bytes(trainer: TrainerConfig) -> int:
    """Memory of one GPU in bytes, or this process' share of the available memory of the machine."""
    if trainer.accelerator == "gpu":
        import torch

        return int(torch.cuda.get_device_properties(0).total_memory)
    import psutil

    return int(psutil.virtual_memory().available) // trainer.num_devices


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
