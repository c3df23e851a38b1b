"""The chat template of a model, with the variables that its config sets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from micota.errors import ConfigError
from micota.template_trial import is_bounded

CLOCK = "strftime_now"  # the function that transformers gives to templates
CLOCK_READ = re.compile(CLOCK + r"""\s*\(\s*(['"])(.*?)\1\s*\)""")
DATE_FORMAT, DAY = "%d %b %Y", "26 Jul 2024"


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
    date = getattr(settings, "date_string", None)
    known = tokenizer.chat_template
    reads_clock = any(CLOCK in each for each in (known.values() if isinstance(known, Mapping) else [known or ""]))
    if settings.template is None and not settings.template_args and date is None and not reads_clock:
        return
    name = getattr(tokenizer, "name_or_path", "") or "the model"
    template = known if settings.template is None else settings.template
    if reads_clock and isinstance(template, Mapping):
        template = template.get("default")  # the one of several by name that renders prompts
    if not isinstance(template, str):
        raise ConfigError(
            f"template_args: the tokenizer of {name} has no chat template, or several; accepted: one, "
            "as chat_template=FILE"
        )
    for variable in settings.template_args:
        if not re.search(rf"\b{re.escape(variable)}\b", template):
            raise ConfigError(
                f"template_args.{variable}: the chat template of {name} has no variable of this name; accepted: those "
                "that it reads, as enable_thinking of Qwen3 and SmolLM3"
            )
    if settings.template is not None and not is_bounded(settings.template):
        raise ConfigError(
            f"chat_template of {name}: the template renders without end, or fills the memory; accepted: one that "
            "renders a short chat within seconds"
        )
    template = with_date(template, date, name)
    tokenizer.chat_template = with_variables(template, settings.template_args)
    check_template(tokenizer, name)


def with_date(template: str, date: str | None, name: str) -> str:
    """A template whose prompts have a fixed date, as those of Llama 3, whose dates are those of the day of rendering.

    Args:
        date: as ``26 Jul 2024``; None: that one, which Llama 3 has where it cannot read a clock.
        name: that of the model, for errors.

    Raises:
        ConfigError: the template puts the time together in a way that is not known, or has no date and is given one.
    """
    if CLOCK not in template and not re.search(r"\bdate_string\b", template):
        if date is None:
            return template
        raise ConfigError(f"date_string={date!r}: the chat template of {name} has no date; accepted: null")
    if CLOCK not in template and date is None:
        return template
    day = date or DAY
    fixed = CLOCK_READ.sub(lambda call: json.dumps(datetime.strptime(day, DATE_FORMAT).strftime(call[2])), template)
    if re.search(rf"{CLOCK}\s*\(|=\s*{CLOCK}\b(?!\s+is\b)", fixed):  # the latter gives it another name
        raise ConfigError(
            f"the chat template of {name} reads the clock by {CLOCK} with a format that is no text in quotes, so that "
            "its prompts would depend on the day; accepted: chat_template=FILE with a fixed date"
        )
    return with_variables(fixed, {"date_string": day}) if re.search(r"\bdate_string\b", template) else fixed


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
