"""Apply LoRA adapters to their model, tensor by tensor: memory does not grow with the size of the model.

The scale is ``alpha / r`` (arXiv 2106.09685), or ``alpha / sqrt(r)`` of rsLoRA (arXiv 2312.03732).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import fields
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from micota.checkpoint import ADAPTER_WEIGHTS, Checkpoint, CheckpointWriter, Form
from micota.errors import ConfigError
from micota.export import add_adapter, export_settings
from micota.merging.slices import slices
from micota.pretrained import load_config, load_tokenizer

PREFIX = "base_model.model."  # by which peft prefixes the names of the model
PLAIN = "accepted: LoRA of linear layers; another kind must be merged into its model with peft first"
# Settings of peft's LoraConfig that change nothing of how an adapter is merged, or that are read below. Any other must
# have its default: a setting that is not known here may change the base weights or the formula.
KNOWN = frozenset((
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "r", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "bias", "use_rslora"),
    *("modules_to_save", "init_lora_weights", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern"),
    *("runtime_config", "megatron_config", "megatron_core", "eva_config"),
))  # fmt: skip
# Starts of A and B that leave the base weights as they are; PiSSA, OLoRA, CorDA and LoftQ change them.
STARTS = (True, False, "gaussian", "orthogonal", "eva")


class Adapter:
    """The tensors of an adapter, in memory, keyed by the tensors of the model that they change.

    Raises:
        ConfigError: the adapter cannot be read, is of another kind, or does not fit the model.
    """

    def __init__(self, folder: Path, config: Any, model: Checkpoint) -> None:
        from peft.utils.other import get_pattern_key

        _check_settings(folder, config)
        with Checkpoint.open(folder, ADAPTER_WEIGHTS) as checkpoint:
            self.pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
            self.scales: dict[str, float] = {}
            self.whole: dict[str, torch.Tensor] = {}  # trained in full: biases, and peft's modules_to_save
            for name in checkpoint.entries:
                module, _, kind = name.removeprefix(PREFIX).partition(".lora_")
                module = _name_in(model, module, "" if kind == "" else ".weight")
                if kind == "" and f"{name.removesuffix('.base_layer.weight')}.lora_A.weight" in checkpoint.entries:
                    continue  # the frozen weight of a head, which peft saves beside its adapter
                if kind == "":
                    self.whole[module] = checkpoint.tensor(name)
                elif kind == "A.weight":
                    down, up = (checkpoint.tensor(name.replace(".lora_A.", f".lora_{x}.")).float() for x in "AB")
                    alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern, module), config.lora_alpha)
                    self.pairs[f"{module}.weight"] = (up, down)
                    rank = down.shape[0]
                    self.scales[f"{module}.weight"] = alpha / (math.sqrt(rank) if config.use_rslora else rank)
                elif kind != "B.weight":
                    raise ConfigError(f"{folder}: the adapter has {name}; {PLAIN}")
        _check_ties(folder, model.folder, self.whole)
        shapes = {name: (up.shape[0], down.shape[1]) for name, (up, down) in self.pairs.items()}
        for name, shape in (shapes | {name: tuple(values.shape) for name, values in self.whole.items()}).items():
            model_shape = model.entries[name].shape if name in model.entries else "missing"
            if model_shape != shape:
                raise ConfigError(
                    f"{folder}: the adapter changes {name} of shape {shape}, which in {model.folder} is {model_shape}; "
                    "accepted: the model that it was trained on"
                )

    def values(self, model: Checkpoint, name: str, start: int, stop: int) -> torch.Tensor:
        """Adapted elements of a flattened tensor, in float32; of a matrix, whole rows."""
        if name in self.whole:
            return self.whole[name].flatten()[start:stop].float()
        values = model.read(name, start, stop)
        if name not in self.pairs:
            return values.float()
        up, down = self.pairs[name]
        columns = down.shape[1]
        # Rows of B A are rows of B times A: a slice of whole rows needs only the same rows of B.
        rows = up[start // columns : stop // columns]
        return add_adapter(values.view(-1, columns), rows, down, self.scales[name]).flatten()


def _check_settings(folder: Path, config: Any) -> None:
    """Refuse an adapter whose settings are not known to leave the formula ``W + s B A`` and W as they are."""
    defaults = type(config)()
    for item in fields(config):
        value = getattr(config, item.name)
        is_known = value in STARTS if item.name == "init_lora_weights" else item.name in KNOWN
        if not is_known and value and value != getattr(defaults, item.name):
            raise ConfigError(f"{folder}: the adapter has {item.name}={value!r}; {PLAIN}")


def _check_ties(folder: Path, model_folder: Path, whole: Mapping[str, torch.Tensor]) -> None:
    """Refuse input embeddings that were trained apart from the output embeddings of a tied model."""
    name = next((name for name in whole if name.endswith(("embed_tokens.weight", "wte.weight"))), None)
    if name is not None and load_config(model_folder).get_text_config().tie_word_embeddings:
        raise ConfigError(
            f"{folder}: the adapter replaces {name} of a model whose embeddings are tied, and not the output "
            f"embeddings; {PLAIN}"
        )


def _name_in(model: Checkpoint, module: str, suffix: str) -> str:
    """The module or tensor of the model's files that one of the loaded model is. transformers loads some models, as
    Gemma 3, with the same parts of names in another order; ``model.`` may stand anywhere."""
    module = module.replace(".base_layer.", ".")
    if f"{module}{suffix}" in model.entries:
        return module

    def parts(name: str) -> list[str]:
        return sorted(part for part in name.split(".") if part != "model")

    wanted = parts(f"{module}{suffix}")
    same = [name for name in model.entries if parts(name) == wanted]
    return same[0].removesuffix(suffix) if len(same) == 1 else module


def write_adapted(
    folder: Path, model_folder: Path, config: Any, target: Path, check_disk: Callable[[int, int], None]
) -> None:
    """Write the model with the adapter of ``folder`` applied to ``target``.

    Args:
        config: of the adapter, by peft.
        check_disk: called with the number of elements to write and the bytes of each, before the first is written.

    Raises:
        ConfigError: the adapter does not fit the model, or is not plain LoRA.
    """
    with Checkpoint.open(model_folder) as model:
        adapter = Adapter(folder, config, model)
        dtype = reduce(torch.promote_types, (entry.dtype for entry in model.entries.values()))
        check_disk(sum(entry.num_elements for entry in model.entries.values()), dtype.itemsize)
        target.mkdir(parents=True)
        settings = load_config(model_folder)
        settings.dtype = dtype
        drop_quantization(settings)
        tokenizer_folder = folder if (folder / "tokenizer_config.json").exists() else model_folder
        tokenizer = load_tokenizer(tokenizer_folder)
        model_source, tokenizer_source = ((str(place), None) for place in (model_folder, tokenizer_folder))
        export_settings(
            settings, generation_config(model_folder, settings), tokenizer, target, model_source, tokenizer_source
        )
        shapes = {name: entry.shape for name, entry in model.entries.items()}
        with closing(CheckpointWriter(target, {name: Form(shape, dtype) for name, shape in shapes.items()})) as writer:
            for name, shape in shapes.items():
                for start, stop in slices(shape):
                    writer.write(name, start, adapter.values(model, name, start, stop).to(dtype))


def drop_quantization(config: Any) -> None:
    """Remove the settings of a quantisation: the weights that a merge reads and writes are plain floats, and a config
    may have them left from before."""
    if hasattr(config, "quantization_config"):
        del config.quantization_config


def generation_config(folder: Path, config: Any) -> Any:
    """The generation config of a model folder, or one made from its config where it has none."""
    try:
        return GenerationConfig.from_pretrained(folder)
    except OSError:
        return GenerationConfig.from_model_config(config)
