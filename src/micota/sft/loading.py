"""Load the model to train: checks first, then its weights, whole on one CPU or sharded over ranks.

A sharded model is built without weights, sharded, and filled from the files. Each rank reads only its rows of each
tensor, and no rank ever holds the whole model. safetensors maps files into memory, so unread rows cost nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch.distributed.tensor import DTensor

from micota.config import TrainerConfig
from micota.export import named_weights
from micota.graph import TrainSpec
from micota.model_files import Location
from micota.pretrained import load_model, reading
from micota.sft import attention, device, lora, memory, quantizing
from micota.sft.checks import CHECKS, Run
from micota.sft.data import Inputs
from micota.sft.freezing import freeze
from micota.sft.shape import Shape
from micota.sft.skeletons import device_of
from micota.weight_files import check_finite, files_of

logger = logging.getLogger(__name__)
Rows = Callable[[str, int, int], torch.Tensor]  # name, first row, row after the last -> these rows of the tensor


@dataclass(frozen=True)
class Loaded:
    """A model to train. The weights of a sharded model are on the meta device, and ``fill`` reads them later.

    ``adapted`` is peft's model around it, if adapters are trained. ``most_tokens`` has the largest micro-batch of each
    kind of activation checkpointing; ``reduction`` is when gradients are summed over devices. ``source`` is where the
    model comes from, ``export_dtype`` the dtype in which it is written. ``base`` reads rows of its weights where they
    are in 4 bits here.
    """

    model: Any
    adapted: Any | None
    most_tokens: dict[str, int]
    reduction: str
    fill: Callable[[torch.device], None] | None
    source: Location
    export_dtype: torch.dtype
    shape: Shape
    base: Rows | None = None


def load(
    inputs: Inputs, spec: TrainSpec, config: TrainerConfig, folder: Path, answer_rows: int, *, writes: bool
) -> Loaded:
    """The model, after checks that need no weights (:mod:`micota.sft.checks`).

    Args:
        answer_rows: answers that the student samples together, where it does.
        writes: whether this rank rehearses the export.

    Raises:
        ConfigError: it does not fit the memory or the disk, or data, kernel and model do not fit each other.
    """
    run = Run(
        inputs.location, spec, config, inputs.longest, folder, device.device_bytes(config), inputs.tokenizer,
        folder / "rehearsal" if writes else None, inputs.teacher, inputs, answer_rows=answer_rows,
    )  # fmt: skip
    for check in CHECKS:
        if check.applies(run):
            check.answer(run)
    model, written = run.model, run.written
    logger.info(
        "attention: %s; activation checkpointing: %s; gradients summed over devices each %s; memory, estimated: %s",
        run.kernel, ", ".join(f"{kind} to {count} tokens" for kind, count in run.limits.items()),
        run.reducing.gradient_reduction,
        memory.memory_bytes(run.shape, run.reducing, run.longest, run.limits),
    )  # fmt: skip
    made = partial(
        Loaded, most_tokens=run.limits, reduction=run.reducing.gradient_reduction, source=inputs.location,
        export_dtype=written, shape=run.shape,
    )  # fmt: skip
    # No rank reads the whole of a sharded model.
    if config.is_sharded:
        return made(model, run.adapted, fill=partial(_fill, model, inputs.location, run.dtype, spec.seed))
    model, base = _whole(run)
    adapted = None if spec.sft.lora is None else lora.adapt(model, spec.sft.lora, spec.seed)
    freeze(model, spec.sft.freeze)
    return made(model, adapted, fill=None, base=base)


def _whole(run: Run) -> tuple[Any, Rows | None]:
    """The whole model on one device, and what reads rows of its weights where they are in 4 bits here."""
    path, revision = run.location
    if run.trainer.quantize == "none":
        implementation = attention.implementation(run.kernel)
        return load_model(path, revision, dtype=run.dtype, attn_implementation=implementation), None
    model = run.plain_model()
    base = rows_of(path, revision, [name for name, _ in named_weights(model)], run.dtype)
    quantizing.fill_quantised(model, base, run.trainer, torch.device(device_of(run.trainer)))
    logger.info("the base is in %s; the export adds the adapters to its unquantised weights", run.trainer.quantize)
    return model, base


def _fill(model: Any, location: tuple[str, str | None], dtype: torch.dtype, seed: int, device: torch.device) -> None:
    """Read this rank's rows of a sharded model, and initialise those of its adapters."""
    names = [name.replace(lora.BASE, "") for name, _ in model.named_parameters() if not lora.is_adapter(name)]
    read_base = rows_of(*location, names, dtype)

    def read(name: str, start: int, stop: int) -> torch.Tensor:
        if lora.LENGTHS in name:
            return lora.lengths(read_base(lora.base_of(name).replace(lora.BASE, ""), start, stop))
        if lora.is_adapter(name):
            return lora.initial(name, model.get_parameter(name).shape, seed)[start:stop]
        return read_base(name.replace(lora.BASE, ""), start, stop)

    fill(model, read, device)


def rows_of(path: str, revision: str | None, names: Iterable[str], dtype: torch.dtype) -> Rows:
    """A function that reads rows of the tensors ``names`` of a model: from its safetensors files, or, if their names
    differ from those of the model (older formats, converted architectures), from the whole model in memory.

    It raises a ModelError for rows with values that are not finite."""
    with reading(path, revision, "weights"):
        files = files_of(path, revision)
    if not files.keys() >= set(names):
        model: Any = load_model(path, revision, dtype=dtype)
        state: dict[str, torch.Tensor] = model.state_dict()
        return lambda name, start, stop: state[name][start:stop]

    def read(name: str, start: int, stop: int) -> torch.Tensor:
        with safe_open(files[name], framework="pt") as file:
            values: torch.Tensor = file.get_slice(name)[start:stop]
        values = values.to(dtype)
        check_finite(path, revision, [(name, values)])
        return values

    return read


def fill(model: Any, read: Rows, device: torch.device) -> None:
    """Fill the weights of a sharded model on the meta device in place; tied weights stay tied.

    Args:
        model: sharded by rows (``Shard(0)`` over one dimension, as fully_shard does).
    """
    # A tied weight is one parameter under several names: all of them must share the new one.
    owners: dict[int, list[tuple[torch.nn.Module, str]]] = {}
    for module in model.modules():
        for leaf, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            owners.setdefault(id(parameter), []).append((module, leaf))
    for name, parameter in list(model.named_parameters()):
        whole: DTensor = parameter
        local = whole.to_local()
        each = -(-whole.shape[0] // whole.device_mesh.size())  # as torch.chunk cuts
        start = min(whole.device_mesh.get_local_rank() * each, whole.shape[0])
        values = read(name, start, start + len(local))
        assert values.shape == local.shape, f"{name}: {values.shape} read for {local.shape}"
        # DTensor.from_local would move offloaded weights to the device of the mesh.
        shards: Any = torch.empty_like(whole, device=device)
        shards.to_local().copy_(values)
        filled = torch.nn.Parameter(shards, requires_grad=parameter.requires_grad)
        (first, leaf), *others = owners[id(parameter)]
        first.load_state_dict({leaf: filled}, strict=False, assign=True)  # also registers it with fully_shard
        for module, other in others:
            setattr(module, other, getattr(first, leaf))
