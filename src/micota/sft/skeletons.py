"""A model without its weights: what is known of it before they are read."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, GenerationConfig

from micota.config import TrainerConfig
from micota.graph import TrainSpec
from micota.model_files import Location
from micota.pretrained import load_config, reading
from micota.sft.shape import Shape
from micota.weight_files import files_of

DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.float32, "bf16-true": torch.bfloat16}


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
