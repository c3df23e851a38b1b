"""Checkpoints of one process for several, and the other way round.

One process writes a file with the weights by name and AdamW's moments by the index of a weight. Several write shards
(PyTorch's distributed checkpoints) with both by name, and a file with all else. Both hold the same values, and a run
goes on from either. Shards need no conversion for another number of processes.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.load import _METADATA_FILENAME as METADATA
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict, set_optimizer_state_dict
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

from micota.sft.shards import EveryShard, ShardReader, loading


def trained_state(module: torch.nn.Module, state: dict[str, Any]) -> dict[str, Any]:
    """A state dict of a module without its frozen weights, which a run reads from its base model."""
    frozen = {name for name, w in module.named_parameters(remove_duplicate=False) if not w.requires_grad}
    return {name: values for name, values in state.items() if name not in frozen}


def whole_checkpoint(folder: Path) -> dict[str, Any]:
    """Shards as the content of one file, whole in memory.

    Raises:
        ConfigError: the folder is damaged, or has more in it than weights.
    """
    stored: dict[str, Any] = {}
    planner = EveryShard()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings(), loading(folder):
        warnings.filterwarnings("ignore", message="TypedStorage is deprecated")  # of what torch itself still uses
        _load_state_dict(stored, storage_reader=ShardReader(folder), planner=planner, no_dist=True)
        rest: dict[str, Any] = torch.load(folder / METADATA, weights_only=True)
    states = [_by_index(stored[f"optimizer_{number}"]) for number in range(len(stored) - 1)]
    return rest | {"state_dict": stored["state_dict"], "optimizer_states": states}


def load_whole(path: Path, model: torch.nn.Module, optimizers: list[Any], *, strict: bool) -> dict[str, Any]:
    """Load one file into a sharded model and its optimisers; every rank reads the file and keeps its part.

    Returns:
        All else that the file has.

    Raises:
        ConfigError: the file is damaged, or has more in it than weights.
    """
    with loading(path):  # mapped into memory, so that a rank reads only its part
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    options = StateDictOptions(full_state_dict=True, strict=strict)
    set_model_state_dict(model, trained_state(model, checkpoint.pop("state_dict")), options=options)
    for optimizer, state in zip(optimizers, checkpoint.pop("optimizer_states"), strict=True):
        names = {id(weight): name for name, weight in model.named_parameters()}
        ordered = [names[id(weight)] for group in optimizer.param_groups for weight in group["params"]]
        set_optimizer_state_dict(model, optimizer, optim_state_dict=_by_name(state, ordered), options=options)
    return checkpoint


def _by_index(state: dict[str, Any]) -> dict[str, Any]:
    """The state of an optimiser with the index of each weight, in the order of its groups, for its name."""
    names = [name for group in state["param_groups"] for name in group["params"]]
    places = {name: place for place, name in enumerate(names)}
    groups = [group | {"params": [places[name] for name in group["params"]]} for group in state["param_groups"]]
    return {"state": {places[name]: values for name, values in state["state"].items()}, "param_groups": groups}


def _by_name(state: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The state of an optimiser with the name of each weight for its index."""
    groups = [group | {"params": [names[place] for place in group["params"]]} for group in state["param_groups"]]
    return {"state": {names[place]: values for place, values in state["state"].items()}, "param_groups": groups}
