"""Configs composed inside a program: for the Python API, and for tools that need the configs of experiments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra

from micota.cli import app
from micota.cli.mistakes import is_users, one_line
from micota.config import SCHEMAS, Call
from micota.config.roles import for_hydra
from micota.errors import ConfigError, UserError


@contextmanager
def composing(config_dir: str | Path | None) -> Iterator[None]:
    """Hydra with the groups of micota and, after them as on the command line, those of the user's folder.

    Raises:
        ConfigError: there is no such folder.
    """
    search = create_config_search_path(str(app.CONF))
    if config_dir is not None:
        folder = Path(config_dir).expanduser().absolute()
        if not folder.is_dir():
            raise ConfigError(
                f"config_dir={str(config_dir)!r}: there is no such folder; accepted: a folder of YAML files"
            )
        search.prepend("command-line", f"file://{folder}", anchor=SearchPathQuery(provider="schema"))
    with hydra.initialize_config_dir(str(app.CONF), version_base="1.3"):  # which restores the previous state
        GlobalHydra.instance().clear()
        Hydra.create_main_hydra2("micota", search)
        yield


def prepared(overrides: Sequence[str], command: str, config_dir: str | Path | None) -> Any:
    """The checked config of a command.

    Raises:
        ConfigError: a mistake; the text is the one line that the command line prints.
    """
    flags = [] if config_dir is None else ["--config-dir", str(Path(config_dir).expanduser().absolute())]
    if isinstance(overrides, str):
        raise ConfigError(f"{overrides!r} is a text; accepted: a list of overrides, as [{overrides.split(' ')[0]!r}]")
    call = Call(flags=flags, overrides=list(overrides))
    try:
        return app.prepare(hydra.compose(command, for_hydra(call.overrides)), SCHEMAS[command], call)
    except Exception as error:
        if isinstance(error, UserError) or not is_users(error):
            raise
        raise ConfigError(one_line(error, SCHEMAS[command], call)) from error
