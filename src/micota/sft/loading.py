"""Load the model to train: checks first, then its weights, whole on one CPU or sharded over ranks.

A sharded model is built without weights, sharded, and filled from the files. Each rank reads only its rows of each
tensor, and no rank ever holds the whole model. safetensors maps files into memory, so unread rows cost nothing.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, GenerationConfig

from micota.config import TrainerConfig
from micota.export import named_weights
from micota.graph import TrainSpec
from micota.model_files import Location
from micota.pretrained import load_config, load_model, reading
from micota.sft import agreement, attention, context_parallel, fitting, fused, lora, memory, quantizing
from micota.sft.data import Inputs, check
from micota.sft.freezing import freeze
from micota.sft.shape import Shape
from micota.weight_files import check_finite, files_of

DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.float32, "bf16-true": torch.bfloat16}
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


def load(inputs: Inputs, spec: TrainSpec, config: TrainerConfig, folder: Path) -> Loaded:
    """The model, after checks that need no weights.

    Raises:
        ConfigError: it does not fit the memory or the disk, or data, kernel and model do not fit each other.
    """
    path, revision = inputs.location
    settings: Any = load_config(path, revision)
    written = export_dtype(spec, path, revision, settings)  # before a model changes the dtype of its config
    kernel = attention.choose(config.attention, device_of(config), settings, spec.precision)
    context_parallel.check(settings, kernel, config)
    fused.check(settings, config)
    agreement.check(settings, kernel)
    # On the meta device first: the checks need only sizes.
    dtype, implementation = DTYPES[spec.precision], attention.implementation(kernel)
    model = skeleton(path, revision, settings, dtype, implementation)
    chosen = [inputs.examples[index] for index in inputs.chosen]
    check([inputs.tokens[i] for i in inputs.chosen], chosen, len(model.get_input_embeddings().weight))
    adapted = None if spec.sft.lora is None else lora.adapt(model, spec.sft.lora, spec.seed)
    freeze(model, spec.sft.freeze)
    shape = Shape.of(model).trained_by(spec.sft)
    if inputs.teacher is not None:
        stored = computing_dtype(spec.precision).itemsize
        shape = replace(shape, beside=stored * shape_at(inputs.teacher).weights)
    most_tokens = memory.most_tokens(shape, config, inputs.longest)
    reduction = memory.gradient_reduction(shape, config, inputs.longest, most_tokens)
    config = replace(config, gradient_reduction=reduction)
    fitting.check_memory(shape, spec.sft, config, inputs.longest, most_tokens)
    free, keeps_best = shutil.disk_usage(folder).free, spec.sft.best.by != "none"
    fitting.check_disk(folder, shape, config, free, written.itemsize, keeps_best=keeps_best)
    logger.info(
        "attention: %s; activation checkpointing: %s; gradients summed over devices each %s; memory, estimated: %s",
        kernel, ", ".join(f"{kind} to {count} tokens" for kind, count in most_tokens.items()), reduction,
        memory.memory_bytes(shape, config, inputs.longest, most_tokens),
    )  # fmt: skip
    # No rank reads the whole of a sharded model.
    if config.is_sharded:
        fill_later = partial(_fill, model, inputs.location, dtype, spec.seed)
        return Loaded(model, adapted, most_tokens, reduction, fill_later, inputs.location, written, shape)
    base: Rows | None = None
    if config.quantize != "none":
        model = skeleton(path, revision, settings, dtype, implementation)
        base = rows_of(path, revision, [name for name, _ in named_weights(model)], dtype)
        quantizing.fill_quantised(model, base, config, torch.device(device_of(config)))
        logger.info("the base is in %s; the export adds the adapters to its unquantised weights", config.quantize)
    else:
        model = load_model(path, revision, dtype=dtype, attn_implementation=implementation)
    adapted = None if spec.sft.lora is None else lora.adapt(model, spec.sft.lora, spec.seed)
    freeze(model, spec.sft.freeze)
    return Loaded(model, adapted, most_tokens, reduction, None, inputs.location, written, shape, base)


def export_dtype(spec: TrainSpec, path: str, revision: str | None, settings: Any) -> torch.dtype:
    """The dtype in which the trained weights are written: as chosen, or that of the model before fine-tuning. A model
    that was trained in a smaller type holds no more than that type.

    Args:
        settings: the config of the model at ``path``, as transformers has it.
    """
    if spec.sft.export_dtype != "auto":
        chosen: torch.dtype = getattr(torch, spec.sft.export_dtype)
        return chosen
    held, stored = DTYPES[spec.precision], settings.get_text_config().dtype or settings.dtype
    if stored is None:  # configs need not state it
        with reading(path, revision, "weights"):
            stored = _stored_dtype(files_of(path, revision)) or held
    return held if held.itemsize < stored.itemsize else stored


def _stored_dtype(files: Mapping[str, str]) -> torch.dtype | None:
    """The dtype of the first tensor of floats in safetensors files; None without such files."""
    for name, path in files.items():
        with safe_open(path, framework="pt") as file:
            values: torch.Tensor = file.get_slice(name)[:0]
        if values.is_floating_point():
            return values.dtype
    return None


def shape_at(location: Location) -> Shape:
    """The sizes of a model, by its config alone."""
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(load_config(*location))
    return Shape.of(model)


def computing_dtype(precision: str) -> torch.dtype:
    """The type of a model that only computes, by ``trainer.precision``."""
    return torch.float32 if precision == "32-true" else torch.bfloat16


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


def device_of(config: TrainerConfig) -> str:
    """The type of the device that computes, as torch names it."""
    return "cuda" if config.accelerator == "gpu" else "cpu"


def skeleton(path: str, revision: str | None, settings: Any, dtype: torch.dtype, implementation: str) -> Any:
    """A causal LM whose weights are on the meta device, and whose buffers (rotary frequencies) are real.

    Args:
        settings: the config of the model at ``path``, as transformers has it.
        implementation: transformers' name of the attention kernel.
    """
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(settings, dtype=dtype, attn_implementation=implementation)
    with suppress(OSError):  # a model need not have such a file
        model.generation_config = GenerationConfig.from_pretrained(path, revision=revision)
    unsaved = {name for name, _ in model.named_non_persistent_buffers()}
    for prefix, module in model.named_modules():
        # Buffers that no file has (rotary frequencies) must be computed; NaN marks one that was not.
        unsaved_here = [name for name, _ in module.named_buffers(prefix, recurse=False) if name in unsaved]
        for name in unsaved_here:
            leaf = name.rpartition(".")[2]
            module._buffers[leaf] = torch.full_like(module._buffers[leaf], torch.nan, device="cpu")
        if unsaved_here:
            model._init_weights(module)  # as from_pretrained computes them
            assert not any(buffer.isnan().any() for buffer in module.buffers(recurse=False)), unsaved_here
    return model


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
