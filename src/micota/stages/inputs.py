"""What stages share: where an input is, and engines that stay open between benchmarks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from micota.artifacts import ArtifactError, Store
from micota.config import ConfigError, EngineConfig
from micota.engines import open_engine
from micota.engines.base import Engine
from micota.records import Node
from micota.sources import model_folder

_open: dict[str, Engine] = {}  # at most one: the last model used


def input_path(store: Store, node: Node) -> Path:
    """The folder of a finished input artifact, checked.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    if store.manifest(node) is None:
        raise ArtifactError(f"{store.path(node)} is missing")
    return store.path(node)


def model_location(store: Store, node: Node) -> tuple[str, str | None]:
    """Folder or hub id of a model, and its revision."""
    if node.is_source:
        return model_folder(node.spec.path), node.spec.revision if not node.spec.path.startswith("bundled:") else None
    return str(input_path(store, node)), None


def engine_for(store: Store, node: Node, config: EngineConfig) -> Engine:
    """The engine with the model of ``node`` loaded; the model used before makes room for it."""
    check_device(config.device, "engine.device")
    name = f"{node.key}-{config}"
    if name not in _open:
        close_engine()
        _open[name] = open_engine(config, *model_location(store, node))
    return _open[name]


def close_engine() -> None:
    """Free the model that is loaded, before training or another model needs the memory."""
    while _open:
        _open.popitem()[1].close()


def check_device(wanted: str, key: str) -> None:
    """Refuse a GPU that is not there before anything is loaded.

    Raises:
        ConfigError: the text names ``key``, the setting that asks for it.
    """
    if wanted in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ConfigError(f"{key}={wanted!r}, but PyTorch sees no GPU here; use a machine with one, or {key}=cpu")


def seed_of(*parts: object) -> int:
    """A seed that depends on all parts, and on nothing else."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")
