"""A model in shards that no rank ever holds whole: built without weights, sharded, and filled from the files.

Each rank reads its own rows of each tensor. safetensors maps files into memory, so that what is not read costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file

from micota.pretrained import load_model, reading

Rows = Callable[[str, int, int], torch.Tensor]  # name, first row, row after the last -> these rows of the tensor


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
        own = [name for name, _ in module.named_buffers(prefix, recurse=False) if name in unsaved]
        for name in own:
            leaf = name.rpartition(".")[2]
            module._buffers[leaf] = torch.full_like(module._buffers[leaf], torch.nan, device="cpu")
        if own:
            model._init_weights(module)  # as from_pretrained fills what is in no file
            assert not any(buffer.isnan().any() for buffer in module.buffers(recurse=False)), own
    return model


def rows_of(path: str, revision: str | None, names: Iterable[str], dtype: torch.dtype) -> Rows:
    """How to read rows of the tensors ``names`` of a model: from its safetensors files, or, where these have other
    names than the model (older formats, converted architectures), from the model, read whole."""
    with reading(path, revision, "weights"):
        files = _files(path, revision)
    if not files.keys() >= set(names):
        model: Any = load_model(path, revision, dtype=dtype)
        state: dict[str, torch.Tensor] = model.state_dict()
        return lambda name, start, stop: state[name][start:stop]

    def read(name: str, start: int, stop: int) -> torch.Tensor:
        with safe_open(files[name], framework="pt") as file:
            values: torch.Tensor = file.get_slice(name)[start:stop]
        return values.to(dtype)

    return read


def _files(path: str, revision: str | None) -> Mapping[str, str]:
    """The file of each tensor of a folder or hub id; empty where the model is in no safetensors files."""
    options: dict[str, Any] = {"revision": revision, "_raise_exceptions_for_missing_entries": False}
    index = cached_file(path, SAFE_WEIGHTS_INDEX_NAME, **options)
    if index is not None:
        places: dict[str, str] = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"]
        found = {file: str(cached_file(path, file, revision=revision)) for file in set(places.values())}
        return {name: found[file] for name, file in places.items()}
    single = cached_file(path, SAFE_WEIGHTS_NAME, **options)
    if single is None:
        return {}
    with safe_open(single, framework="pt") as file:
        return dict.fromkeys(file.keys(), single)


def fill(model: Any, read: Rows, device: torch.device) -> None:
    """Give a sharded model on the meta device its weights, in place; tied ones stay tied.

    Args:
        model: sharded by rows (``Shard(0)`` over one dimension, as fully_shard does).
    """
    owners: dict[int, list[tuple[torch.nn.Module, str]]] = {}
    for module in model.modules():
        for leaf, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            owners.setdefault(id(parameter), []).append((module, leaf))
    for name, parameter in list(model.named_parameters()):
        whole: DTensor = parameter
        local = whole.to_local()
        each = -(-whole.shape[0] // whole.device_mesh.size())  # as torch.chunk cuts
        start = min(whole.device_mesh.get_local_rank() * each, whole.shape[0])
        values = read(name, start, start + len(local)).to(device)
        assert values.shape == local.shape, f"{name}: {values.shape} read for {local.shape}"
        shards = DTensor.from_local(
            values, whole.device_mesh, whole.placements, run_check=False, shape=whole.shape, stride=whole.stride()
        )
        filled = torch.nn.Parameter(shards, requires_grad=parameter.requires_grad)
        (first, leaf), *others = owners[id(parameter)]
        first.load_state_dict({leaf: filled}, strict=False, assign=True)  # which tells fully_shard of it
        for module, other in others:
            setattr(module, other, getattr(first, leaf))
