"""The text of ``--help``: the commands, and the most used keys of one command."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

import micota
from micota.config import COMMANDS, GROUPS, TOOLS, Command, Declaration, child_schema, declaration

WIDTH = 80
INDENT = " " * 4
Options = Callable[[str], Sequence[str]]


def overview() -> str:
    """The commands, a line each, and where to find more help."""
    lines = [str(micota.__doc__).partition("\n")[0], "", "usage: micota COMMAND [KEY=VALUE ...]", ""]
    about = {name: command.about for name, command in COMMANDS.items()}
    about |= {name: tool.about for name, tool in TOOLS.items()}
    for name, text in about.items():
        lines += textwrap.wrap(f"{name:<11}{text}", WIDTH, initial_indent="  ", subsequent_indent=" " * 13)
    lines += ["", "micota COMMAND --help   shows its keys", "micota pipeline experiment=tiny   runs the toy setting"]
    return "\n".join(lines)


def command_help(command: Command, composed: DictConfig, options: Options, program: Sequence[str]) -> str:
    """The help of one command: its purpose, examples, and the most used keys with meaning and current value.

    ``composed`` is the whole config with Hydra's node; ``options`` lists the options of a group; ``program`` are the
    words that start the command.
    """
    lines = [
        *textwrap.wrap(command.about, WIDTH),
        "",
        *(f"  {' '.join(program)} {example}" for example in command.examples),
        "",
        "Keys",
    ]
    for key in command.first:
        lines += _key(command, key, composed, options)
    groups = [key for key in reversed([*composed.hydra.runtime.choices]) if not key.startswith("hydra/")]
    return "\n".join([*lines, "", *_rest(program, groups)])


def _rest(program: Sequence[str], groups: Sequence[str]) -> Iterator[str]:
    start = " ".join(program)
    yield "All groups, each chosen with GROUP=OPTION"
    yield from _wrapped(", ".join(groups))
    yield ""
    yield "Every other key"
    yield f"  {start} --cfg job            all keys and their values, also of groups"
    yield f"  {start} -m seed=0,1          a run for each value"
    yield f"  {start} --config-dir DIR     also your YAML files"
    yield f"  {start} --hydra-help         flags of Hydra"
    yield "  docs/reference/keys.md (make docs): all keys with meaning, unit and default"


def _key(command: Command, key: str, composed: DictConfig, options: Options) -> Iterator[str]:
    """The lines of one key: key and value, meaning, and the options of a group."""
    choices = composed.hydra.runtime.choices
    if key in choices:
        yield f"  {key}={_value(choices[key])}"
    else:
        yield f"  {key}={_value(OmegaConf.select(composed, key))}"
    declared = declared_at(command.schema, key)
    yield from _wrapped(GROUPS[key] if declared is None else declared.about)
    if key in choices:
        yield from _wrapped("one of: " + ", ".join(options(key)))
    elif declared is not None and str(declared.accepted):
        yield from _wrapped(f"accepted: {declared.accepted}" + (f" ({declared.unit})" if declared.unit else ""))


def declared_at(schema: Any, key: str) -> Declaration | None:
    """The declaration of a dotted key of a schema; None where it is no key, as ``experiment``."""
    declared = None
    for name in key.split("."):
        item = next((item for item in fields(schema) if item.name == name), None)
        if item is None:
            return None
        declared, schema = declaration(item), child_schema(schema, name)
    return declared


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
