"""Apply LoRA adapters to their model, tensor by tensor: memory does not grow with the size of the model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from micota.checkpoint import ADAPTER_WEIGHTS, Checkpoint, CheckpointWriter, Form
from micota.errors import ConfigError
from micota.export import add_adapter, export_settings
from micota.merging.adapter_settings import PLAIN, AdapterSettings
from micota.merging.slices import slices
from micota.merging.structure import Structure, stored_name
from micota.pretrained import load_config, load_tokenizer
from micota.weight_files import not_finite

PREFIX = "base_model.model."  # by which peft prefixes the names of the model


class Adapter:
    """The tensors of an adapter, in memory, keyed by the tensors of the model that they change.

    Raises:
        ConfigError: the adapter cannot be read, is of another kind, or does not fit the model.
    """

    def __init__(self, settings: AdapterSettings, model: Checkpoint) -> None:
        folder = settings.folder
        self.pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}  # B and A of W + s B A, by the names of W
        self.scales: dict[str, float] = {}
        self.whole: dict[str, torch.Tensor] = {}  # trained in full: biases, and peft's modules_to_save
        structure = Structure.of(model.folder, load_config(model.folder))
        with Checkpoint.open(folder, ADAPTER_WEIGHTS) as checkpoint:
            for name, (module, kind) in _parts(folder, checkpoint).items():
                _check_ties(folder, structure, module if kind == "" else f"{module}.weight")
                if kind == "":
                    self.whole[stored_name(model, module)] = _finite(folder, checkpoint, name)
                elif kind == "A":
                    pair = [_finite(folder, checkpoint, name.replace(".lora_A.", f".lora_{x}.")).float() for x in "BA"]
                    weight = stored_name(model, f"{module}.weight")
                    self.scales[weight] = settings.scale(module, len(pair[1]))
                    # (B A)^T = A^T B^T, for layers that hold W^T.
                    up, down = (pair[1].T, pair[0].T) if module in structure.transposed else pair
                    self.pairs[weight] = (up.contiguous(), down.contiguous())
        _check_shapes(self, folder, model)

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


def _parts(folder: Path, checkpoint: Checkpoint) -> dict[str, tuple[str, str]]:
    """Of each tensor of an adapter that counts: its module, and A or B; or its name in the loaded model and "" where it
    was trained in full.

    Raises:
        ConfigError: it has tensors of another kind, A without B, or none.
    """
    parts = {}
    for name in checkpoint.entries:
        module, _, kind = name.removeprefix(PREFIX).partition(".lora_")
        if kind == "" and f"{name.removesuffix('.base_layer.weight')}.lora_A.weight" in checkpoint.entries:
            continue  # the frozen weight of a head, which peft saves beside its adapter
        if kind not in ("", "A.weight", "B.weight"):
            raise ConfigError(f"{folder}: the adapter has {name}; {PLAIN}")
        other = {"A.weight": ".lora_B.", "B.weight": ".lora_A."}.get(kind)
        if other and (missing := name.replace(f".lora_{kind[0]}.", other)) not in checkpoint.entries:
            raise ConfigError(f"{folder}: the adapter has {name} and no {missing}; copy it again")
        parts[name] = (module.replace(".base_layer.", "."), kind.removesuffix(".weight"))
    if not parts:
        raise ConfigError(f"{folder}: {ADAPTER_WEIGHTS} has no tensors; {PLAIN}")
    return parts


def _finite(folder: Path, checkpoint: Checkpoint, name: str) -> torch.Tensor:
    values = checkpoint.tensor(name)
    if problem := not_finite(values):
        raise ConfigError(f"{folder / ADAPTER_WEIGHTS}: {name} has {problem}; accepted: finite numbers")
    return values


def _check_ties(folder: Path, structure: Structure, name: str) -> None:
    """Refuse embeddings that were trained apart from those that they are tied to: the model has one tensor for both."""
    if name in structure.tied:
        raise ConfigError(
            f"{folder}: the adapter changes {name} of a model whose input and output embeddings are tied; {PLAIN}"
        )


def _check_shapes(adapter: Adapter, folder: Path, model: Checkpoint) -> None:
    shapes = {name: (up.shape[0], down.shape[1]) for name, (up, down) in adapter.pairs.items()}
    for name, shape in (shapes | {name: tuple(values.shape) for name, values in adapter.whole.items()}).items():
        if name not in model.entries:
            raise ConfigError(
                f"{folder}: the adapter changes {name}, and no file of {model.folder} has a tensor of this name; "
                "accepted: the model that it was trained on, with a tensor for each layer that it changes"
            )
        if model.entries[name].shape != shape:
            raise ConfigError(
                f"{folder}: the adapter changes {name} of shape {shape}, which in {model.folder} is "
                f"{model.entries[name].shape}; accepted: the model that it was trained on"
            )


def write_adapted(
    settings: AdapterSettings, model_folder: Path, target: Path, check_disk: Callable[[int, int], None]
) -> None:
    """Write the model with an adapter applied to ``target``. Every tensor keeps its dtype.

    Args:
        settings: of the adapter.
        check_disk: called with the number of elements to write and their bytes, before the first is written.

    Raises:
        ConfigError: the adapter does not fit the model, or is not plain LoRA.
    """
    folder = settings.folder
    with Checkpoint.open(model_folder) as model:
        adapter = Adapter(settings, model)
        forms = {name: Form(entry.shape, entry.dtype) for name, entry in model.entries.items()}
        check_disk(
            sum(entry.num_elements for entry in model.entries.values()), sum(form.num_bytes for form in forms.values())
        )
        target.mkdir(parents=True)
        config = load_config(model_folder)
        drop_quantization(config)
        tokenizer_folder = folder if (folder / "tokenizer_config.json").exists() else model_folder
        tokenizer = load_tokenizer(tokenizer_folder)
        model_source, tokenizer_source = ((str(place), None) for place in (model_folder, tokenizer_folder))
        export_settings(
            config, generation_config(model_folder, config), tokenizer, target, model_source, tokenizer_source
        )
        with closing(CheckpointWriter(target, forms)) as writer:
            for name, form in forms.items():
                for start, stop in slices(form.shape):
                    writer.write(name, start, adapter.values(model, name, start, stop).to(form.dtype))


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
