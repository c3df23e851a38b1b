"""The check of a teacher and its student, by their tokenizers alone."""

from __future__ import annotations

from typing import Any

from micota.artifacts.store import Store
from micota.config import Config
from micota.config.objective import NOT_STORED
from micota.data.prompts import messages, render
from micota.data.sources import model_folder
from micota.data.turns import end_of_turn
from micota.data.vocabulary import first_difference
from micota.errors import ConfigError
from micota.graph import TrainSpec
from micota.graph.node import AnyNode, Node
from micota.graph.teachers import TARGETS, TargetsSpec, teacher_of
from micota.pretrained import load_tokenizer
from micota.runtime.execute import naming_keys
from micota.runtime.inputs import input_path, template_of
from micota.sft.targets import StoredTargets
from micota.sft.token_table import TokenTable, sum_of_tokens


def check(config: Config, node: Node[TrainSpec]) -> None:
    """Refuse a teacher that reads other tokens than the student, before anything is made. Of a model on the hub, only
    the tokenizer is fetched.

    Raises:
        ConfigError: the text names both models and the first token that differs.
        SourceError: a tokenizer cannot be read.
    """
    if (teacher := teacher_of(node)) is None:
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
    if TARGETS in node.inputs:
        prompt = messages("1 + 1", node.inputs["data"].spec.prompt)
        if _around(known, prompt) != _around(wanted, prompt):
            raise ConfigError(_other_template(config.objective.stored, teacher))


def _around(tokenizer: Any, prompt: list[dict[str, str]]) -> tuple[str, int]:
    """A prompt as the chat template renders it, and the token that ends an answer."""
    return render(tokenizer, prompt), end_of_turn(tokenizer).id


def stored(store: Store, node: Node[TargetsSpec], tokens: TokenTable) -> StoredTargets:
    """The stored log-probabilities of a teacher for the examples of a training.

    Args:
        tokens: of the student, of all examples of the data, cut as the settings of training have it.

    Raises:
        ConfigError: the student has other tokens.
    """
    found = StoredTargets(input_path(store, node))
    if found.tokens != sum_of_tokens(tokens):
        raise ConfigError(_other_template(node.spec.dtype, node.inputs["model"]))
    return found


def _other_template(dtype: str, teacher: AnyNode) -> str:
    return (
        f"objective.stored={dtype}: the tokens of the data by the tokenizer and chat template of the teacher "
        f"{teacher.name} are not those of the student; accepted: objective.stored={NOT_STORED}, or a teacher with the "
        "chat template of the student"
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
        tokenizer = load_tokenizer(model_folder(node.spec.path), revision)
    template_of(node, tokenizer)
    return tokenizer
