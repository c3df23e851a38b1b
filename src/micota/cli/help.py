"""What ``--help`` shows: the commands, and of one command the keys that people set first."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

import micota
from micota.config import COMMANDS, GROUPS, Command, child_schema
from micota.config.fields import Declaration, declaration

WIDTH = 80
INDENT = " " * 4
Options = Callable[[str], Sequence[str]]


def overview() -> str:
    """The commands, a line each, and where to read on."""
    lines = [str(micota.__doc__), "", "usage: micota COMMAND [KEY=VALUE ...]", ""]
    for command in COMMANDS.values():
        lines += textwrap.wrap(
            f"{command.name:<10}{command.about}", WIDTH, initial_indent="  ", subsequent_indent=" " * 12
        )
    lines += ["", "micota COMMAND --help   shows its keys", "micota pipeline experiment=tiny   runs the toy setting"]
    return "\n".join(lines)


def command_help(command: Command, composed: DictConfig, options: Options, program: Sequence[str]) -> str:
    """The help of one command: what it does, examples, and each first key with meaning and present value.

    ``composed`` is the whole config with Hydra's node; ``options`` lists those of a group; ``program`` are the words
    that start the command.
    """
    lines = [command.about, "", *(f"  {' '.join(program)} {example}" for example in command.examples), "", "Keys"]
    for key in command.first:
        lines += _key(command, key, composed, options)
    return "\n".join([*lines, "", *_rest(program)])


def _rest(program: Sequence[str]) -> Iterator[str]:
    start = " ".join(program)
    yield "Every other key"
    yield f"  {start} --cfg job            all keys and their values, also of groups"
    yield f"  {start} -m seed=0,1          a run for each value"
    yield f"  {start} --config-dir DIR     also YAML of your own"
    yield f"  {start} --hydra-help         flags of Hydra"
    yield "  docs/reference: all keys with meaning, unit and default (make docs)"


def _key(command: Command, key: str, composed: DictConfig, options: Options) -> Iterator[str]:
    """The lines of one key: key and value, meaning, and of a group its options."""
    choices = composed.hydra.runtime.choices
    if key in choices:
        yield f"  {key}={choices[key]}"
    else:
        yield f"  {key}={_value(OmegaConf.select(composed, key))}"
    about, accepted = describe(command.schema, key)
    yield from _wrapped(about)
    if key in choices:
        yield from _wrapped("one of: " + ", ".join(options(key)))
    elif accepted:
        yield from _wrapped(f"accepted: {accepted}")


def describe(schema: Any, key: str) -> tuple[str, str]:
    """Meaning and accepted values of a dotted key, as the schema has them."""
    if key in GROUPS:
        return GROUPS[key], ""
    declared: Declaration | None = None
    for name in key.split("."):
        item = next((item for item in fields(schema) if item.name == name), None) if is_dataclass(schema) else None
        declared = declaration(item) if item else None
        schema = child_schema(schema, name)
    return (declared.about, str(declared.accepted)) if declared else ("", "")


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if OmegaConf.is_config(value):
        return "[" + ",".join(map(str, value)) + "]"
    return str(value)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False
    )
