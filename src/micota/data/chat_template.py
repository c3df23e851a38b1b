"""The chat template of a model, with the variables that its config sets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Protocol

from micota.errors import ConfigError


class Templated(Protocol):
    """The settings of a model that change its chat template."""

    @property
    def template(self) -> str | None: ...
    @property
    def template_args(self) -> Mapping[str, Any]: ...


def use_template(tokenizer: Any, settings: Templated) -> None:
    """Give a tokenizer the chat template of a model's config.

    Variables are set in the text of the template. So one rendering holds in generation, training and evaluation, and a
    model that is written with the tokenizer keeps it, whoever renders its prompts.

    Raises:
        ConfigError: the template cannot render a question, or lacks a variable.
    """
    if settings.template is None and not settings.template_args:
        return
    name = getattr(tokenizer, "name_or_path", "") or "the model"
    template = tokenizer.chat_template if settings.template is None else settings.template
    if not isinstance(template, str):
        raise ConfigError(f"template_args: the tokenizer of {name} has no chat template, or several; set chat_template")
    for variable in settings.template_args:
        if not re.search(rf"\b{re.escape(variable)}\b", template):
            raise ConfigError(
                f"template_args.{variable}: the chat template of {name} has no variable of this name; accepted: those "
                "that it reads, as enable_thinking of Qwen3 and SmolLM3"
            )
    tokenizer.chat_template = with_variables(template, settings.template_args)
    check_template(tokenizer, name)


def with_variables(template: str, values: Mapping[str, Any]) -> str:
    """A template that begins by setting variables."""
    return "".join(f"{{%- set {name} = {_literal(value)} %}}" for name, value in values.items()) + template


def _literal(value: Any) -> str:
    """A value as Jinja has it: as JSON, but for null."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def check_template(tokenizer: Any, name: str) -> None:
    """Render a question with the chat template of a tokenizer.

    Raises:
        ConfigError: it cannot.
    """
    from jinja2 import TemplateError

    try:
        tokenizer.apply_chat_template(
            [{"role": "user", "content": "What is 2 + 2?"}], tokenize=False, add_generation_prompt=True
        )
    except (TemplateError, TypeError, ValueError) as error:
        raise ConfigError(
            f"chat_template, template_args: the template of {name} cannot render a question ({error}); accepted: a "
            "Jinja template that renders messages and add_generation_prompt"
        ) from error
