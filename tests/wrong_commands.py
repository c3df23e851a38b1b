"""Command lines composed quickly: Hydra merges the files of a choice of groups once for all lines that make it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from micota.cli import app
from micota.cli.arguments import read
from micota.cli.composing import composing
from micota.cli.mistakes import is_users, one_line
from micota.config import SCHEMAS, Call
from micota.errors import shown

_bases: dict[tuple[str, ...], DictConfig] = {}


def refusal(line: str, check: Callable[[object], None] | None = None, config_dir: Path | None = None) -> str:
    """The line that a command prints as an error before it starts work; empty where it is accepted.

    Args:
        line: as typed after ``micota``, quoted for a shell.
        check: what the command checks of its config besides, as the models of a plan.

    Raises:
        Exception: any that is no user error, with which the command would show a traceback.
    """
    command, *words = shlex.split(line)
    call = Call()
    try:
        call, arguments = read(words, as_script=False)
        overrides = [word for word in arguments if not word.startswith("--")]
        with composing(config_dir):
            config = app.prepare(_composed(command, overrides), SCHEMAS[command], call)
            if check is not None:
                check(config)
    except Exception as error:
        if not is_users(error):
            raise
        return shown(one_line(error, SCHEMAS[command], call))
    return ""


def _composed(command: str, overrides: list[str]) -> DictConfig:
    parsed = OverridesParser.create().parse_overrides(overrides=overrides)
    loader = GlobalHydra.instance().config_loader()
    groups = {item.get_key_element() for item in parsed if _is_choice(loader, item)}
    chosen = [item.input_line for item in parsed if item.get_key_element() in groups]
    if (command, *chosen) not in _bases:
        _bases[command, *chosen] = hydra.compose(command, chosen)
    base = deepcopy(_bases[command, *chosen])
    ConfigLoaderImpl._apply_overrides_to_config([item for item in parsed if item.get_key_element() not in groups], base)
    return base


def _is_choice(loader: object, item: object) -> bool:
    key = item.key_or_group  # type: ignore[attr-defined]
    return item.package is not None or loader.repository.group_exists(key)  # type: ignore[attr-defined]
