"""Inputs of stages: paths of artifacts and models, and the engine that stays open between benchmarks."""

from __future__ import annotations

from pathlib import Path

import torch

from micota.artifacts.store import Store
from micota.config import EngineConfig
from micota.data.sources import model_folder
from micota.engines import open_engine
from micota.engines.base import Engine
from micota.errors import ArtifactError, ConfigError
from micota.graph.node import AnyNode

_open: dict[str, Engine] = {}  # at most one: the last model used


def input_path(store: Store, node: AnyNode) -> Path:
    """The folder of a finished input artifact, checked.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    if store.manifest(node) is None:
        raise ArtifactError(f"{store.path(node)} is missing")
    return store.path(node)


def model_location(store: Store, node: AnyNode) -> tuple[str, str | None]:
    """Folder or hub id of a model, and its revision (None for a folder)."""
    if node.is_source:
        return model_folder(node.spec.path), node.spec.revision if not node.spec.path.startswith("bundled:") else None
    return str(input_path(store, node)), None


def engine_for(store: Store, node: AnyNode, config: EngineConfig) -> Engine:
    """The engine with the model of ``node``. An engine of another model is closed first."""
    check_device(config.device, "engine.device")
    name = f"{node.key}-{config}"
    if name not in _open:
        close_engine()
        _open[name] = open_engine(config, *model_location(store, node))
    return _open[name]


def close_engine() -> None:
    """Close the open engine, if there is one, and free its memory."""
    while _open:
        _open.popitem()[1].close()


def check_device(wanted: str, key: str) -> None:
    """Refuse a GPU that this machine lacks, before anything is loaded.

    Raises:
        ConfigError: the text names ``key``, the setting to change.
    """
    if wanted in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ConfigError(f"{key}={wanted!r}, but PyTorch sees no GPU here; use a machine with one, or {key}=cpu")
