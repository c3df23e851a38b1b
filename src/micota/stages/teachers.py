"""The check of a teacher and its student, by their tokenizers alone."""

from __future__ import annotations

from typing import Any

from micota.config import Config
from micota.data.sources import model_folder
from micota.data.vocabulary import first_difference
from micota.errors import ConfigError
from micota.graph import TrainSpec
from micota.graph.node import AnyNode, Node
from micota.pretrained import load_tokenizer
from micota.runtime.execute import naming_keys


def check(config: Config, node: Node[TrainSpec]) -> None:
    """Refuse a teacher that reads other tokens than the student, before anything is made. Of a model on the hub, only
    the tokenizer is fetched.

    Raises:
        ConfigError: the text names both models and the first token that differs.
        SourceError: a tokenizer cannot be read.
    """
    if (teacher := node.inputs.get("teacher")) is None:
        return
    if config.trainer.loss == "liger":
        raise ConfigError(
            f"trainer.loss=liger with objective={config.objective.name}, whose loss it does not compute; accepted: "
            "auto, chunked"
        )
    known, wanted = _tokenizer(config, teacher), _tokenizer(config, node.inputs["model"])
    if (different := first_difference(known, wanted)) is not None:
        number, seen, expected = different
        raise ConfigError(
            f"objective.teacher={config.objective.teacher}: in the tokenizer of {teacher.name} id {number} is "
            f"{seen!r}, and in that of the student {node.inputs['model'].name} {expected!r}; accepted: a teacher with "
            "the tokenizer of the student"
        )


def source_of(node: AnyNode) -> AnyNode:
    """The model that another is made from; both have the same tokenizer and sizes."""
    while not node.is_source:
        node = node.inputs["tuned"] if "tuned" in node.inputs else node.inputs["model"]
    return node


def _tokenizer(config: Config, node: AnyNode) -> Any:
    """The tokenizer of a model that exists, or of that which a model is to be made from."""
    node = source_of(node)
    revision = None if node.spec.path.startswith("bundled:") else node.spec.revision
    with naming_keys(config):
        return load_tokenizer(model_folder(node.spec.path), revision)
