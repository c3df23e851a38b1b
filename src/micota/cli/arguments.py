"""The words of a command line: which of them Hydra reads as flags, and which as overrides."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from micota.config import COMMANDS, TOOLS, Call
from micota.config.models import local_path
from micota.config.quoting import quoted_value
from micota.config.roles import for_hydra
from micota.errors import ConfigError

_SPECIAL = re.compile(r"[^\w./+-]", re.ASCII)
COMPLETION = ("-sc", "--shell-completion")


def read(words: Sequence[str], *, as_script: bool) -> tuple[Call, list[str]]:
    """How the command was called, and its words as Hydra takes them: it wants all overrides in one piece, and here
    flags may stand anywhere.

    Raises:
        ConfigError: there is no such flag, or it lacks its value.
    """

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"{message}; accepted: KEY=VALUE, and the flags that --hydra-help lists")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]  # it would print its whole usage
    parsed = parser.parse_intermixed_args(list(words))
    flags = []
    if parsed.config_dir is not None:
        flags += ["--config-dir", str(Path(parsed.config_dir).expanduser().absolute())]
    if parsed.config_path is not None:  # else Hydra would look beside a module of micota
        is_module = "://" in parsed.config_path
        flags += ["--config-path", parsed.config_path if is_module else str(Path(parsed.config_path).absolute())]
    if parsed.config_name is not None:
        flags += ["--config-name", parsed.config_name]
    others = [word for word in words if word not in parsed.overrides]
    overrides = [_quoted_path(word) for word in parsed.overrides]
    call = Call(as_script=as_script, flags=flags, overrides=overrides)
    return call, [*others, *flags, *for_hydra(overrides)]  # of a flag given twice, Hydra takes the last


def tool_parser(tool: str, accepted: Iterable[str]) -> tuple[argparse.ArgumentParser, Callable[[str], NoReturn]]:
    """A parser of the words of a tool that is no experiment (``--json``, ``--help``, any other words in ``words``), and
    a function that refuses them by a ConfigError with what is accepted."""
    forms = ", ".join(accepted)

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"{tool}: {message}; accepted: {forms}")

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = refuse  # type: ignore[method-assign]  # it would print its whole usage
    parser.add_argument("words", nargs="*")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")
    return parser, refuse


def _quoted_path(word: str) -> str:
    """A word whose value is the path of a file, in quotes if it has signs of Hydra's grammar (``=``, ``,``, ``~``)."""
    key, _, value = word.partition("=")
    if not _SPECIAL.search(value) or value[0] in "'\"":
        return word
    return f"{key}={quoted_value(value)}" if _at_home(value) or _in_script(value) or _exists(value) else word


def _in_script(value: str) -> bool:
    """Whether a value has letters of other scripts than Latin, which the grammar does not know, and no signs of it."""
    return not value.isascii() and not set(value) & set("'\"[]{}(),$=")


def _at_home(value: str) -> bool:
    return value.startswith("~/") and "," not in value  # with a comma it may be a sweep


def _exists(value: str) -> bool:
    try:
        return local_path(value).exists()
    except (OSError, ValueError):  # too long for a name
        return False


def completing(words: Sequence[str]) -> list[str]:
    """The words with which Hydra completes or installs completion: it knows one command alone, not one of several.

    The line that is being typed is in the environment (``COMP_LINE``), as the shell left it there.
    """
    program, *typed = os.environ.get("COMP_LINE", "micota").split()
    if typed and typed[0] in COMMANDS and "query" in words[-1]:
        line = os.environ["COMP_LINE"]
        os.environ["COMP_LINE"] = f"{program} {line.split(typed[0], 1)[1].lstrip()}"
        return [typed[0], *words]
    return ["pipeline", *words]


def commands_for(words: Sequence[str]) -> list[str] | None:
    """The commands to choose from where the shell completes the first word; None elsewhere."""
    line = os.environ.get("COMP_LINE", "")
    is_first = len(line.split()) == 1 or (len(line.split()) == 2 and not line.endswith(" "))
    return [*COMMANDS, *TOOLS] if is_first and words and "query" in words[-1] else None
