"""Inputs of stages: paths of artifacts and models, and the engine that stays open between benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from micota.artifacts.store import Store
from micota.config import EngineConfig
from micota.data.chat_template import use_template
from micota.data.sources import model_folder
from micota.engines import open_engine
from micota.engines.base import Engine, TakesTemplateArgs
from micota.errors import ConfigError
from micota.graph import SourceSpec
from micota.graph.node import AnyNode
from micota.pretrained import load_tokenizer

_open: dict[str, Engine] = {}  # at most one: the last model used


def input_path(store: Store, node: AnyNode) -> Path:
    """The folder of a finished input artifact, whose files are as its manifest has them.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    return store.verified(node)


def model_location(store: Store, node: AnyNode) -> tuple[str, str | None]:
    """Folder or hub id of a model, and its revision (None for a folder)."""
    if node.is_source:
        return model_folder(node.spec.path), node.spec.revision if not node.spec.path.startswith("bundled:") else None
    return str(input_path(store, node)), None


def tokenizer_for(store: Store, node: AnyNode) -> Any:
    """The tokenizer of a model, with the chat template of its config. Models that were made here have theirs in their
    folder."""
    tokenizer: Any = load_tokenizer(*model_location(store, node))
    template_of(node, tokenizer)
    return tokenizer


def template_of(node: AnyNode, tokenizer: Any) -> None:
    """Give the tokenizer of a model the chat template of the model's config."""
    if node.is_source:
        use_template(tokenizer, node.spec)


def engine_for(store: Store, node: AnyNode, config: EngineConfig) -> Engine:
    """The engine with the model of ``node``. An engine of another model is closed first."""
    check_device(config.device, "engine.device")
    name = f"{node.key}-{config}"
    if name not in _open:
        close_engine()
        engine = open_engine(config, *model_location(store, node))
        _open[name] = engine
        if node.is_source:
            _use_template(engine, node.spec)
    return _open[name]


def _use_template(engine: Engine, spec: SourceSpec) -> None:
    """Render prompts by the template of a model's config.

    Raises:
        ConfigError: an endpoint renders them, which takes variables and no template.
    """
    if engine.tokenizer is not None:
        use_template(engine.tokenizer, spec)
    elif isinstance(engine, TakesTemplateArgs):
        engine.template_args = spec.template_args | ({"date_string": spec.date_string} if spec.date_string else {})
        if spec.template is not None:
            raise ConfigError("chat_template with engine=chat, whose API renders prompts; accepted: template_args")


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
