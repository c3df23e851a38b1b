"""The sizes of a model without loading it: from the YAML that names it or its path, or from its config.json here."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from micota.config import ModelConfig, ShapeConfig, conf_folder
from micota.data.sources import model_folder
from micota.graph import SourceSpec
from micota.graph.node import AnyNode, Node

CONFIG = "config.json"


def shape_of(node: AnyNode, known: dict[str, ShapeConfig]) -> ShapeConfig | None:
    """The sizes of the model that a node is or makes; a model that is trained or merged has those of its input.

    Args:
        known: sizes by path, as in the config.
    """
    if node.is_source:
        return known.get(node.spec.path) or _of_files(node) or _of_options().get(node.spec.path)
    below = node.inputs.get("tuned") or node.inputs.get("model")
    return None if below is None else shape_of(below, known)


def known_shapes(models: list[ModelConfig]) -> dict[str, ShapeConfig]:
    """The sizes that a config has, by path."""
    return {model.path: model.shape for model in models if model.path is not None and model.shape is not None}


@cache
def _of_options() -> dict[str, ShapeConfig]:
    """The sizes of the models that have an option, by path: for those that are named by their path alone."""
    options = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in (conf_folder() / "model").glob("*.yaml")]
    return {one["path"]: ShapeConfig(**one["shape"]) for one in options if one.get("shape")}


def _of_files(node: Node[SourceSpec]) -> ShapeConfig | None:
    content = config_of_files(node.spec.path, node.spec.revision)
    return None if content is None else shape_in(content)


def stored_bytes(node: AnyNode) -> int:
    """Bytes of a weight of the model that a node is or makes, as its config.json states; 2 (bfloat16) if unknown."""
    if not node.is_source:
        below = node.inputs.get("tuned") or node.inputs.get("model")
        return 2 if below is None else stored_bytes(below)
    content = config_of_files(node.spec.path, node.spec.revision) or {}
    return 4 if "32" in str(content.get("dtype") or content.get("torch_dtype") or "") else 2


@cache
def config_of_files(path: str, revision: str | None) -> dict[str, Any] | None:
    """The config.json of a folder, or of the cache of the hub; None if it is not on this machine."""
    folder = model_folder(path)
    file = Path(folder) / CONFIG
    if Path(folder).is_dir():
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(folder, CONFIG, revision=revision)
    except HFValidationError:  # neither a folder nor a hub id
        return None
    return dict(json.loads(Path(cached).read_text(encoding="utf-8"))) if isinstance(cached, str) else None


def shape_in(content: dict[str, Any]) -> ShapeConfig | None:
    """The sizes in a config.json of transformers; None if it lacks one."""
    text = content.get("text_config") or content
    try:
        heads = int(text["num_attention_heads"])
        return ShapeConfig(
            layers=int(text["num_hidden_layers"]),
            hidden=int(text["hidden_size"]),
            intermediate=int(text["intermediate_size"]),
            heads=heads,
            kv_heads=int(text.get("num_key_value_heads") or heads),
            head_dim=text.get("head_dim"),
            vocab=int(text["vocab_size"]),
            tied=bool(text.get("tie_word_embeddings", content.get("tie_word_embeddings", False))),
        )
    except (KeyError, TypeError, ValueError):
        return None
