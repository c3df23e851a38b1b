"""Mistakes in configs that Hydra reports by general errors, as lines that name the file or the key."""

from __future__ import annotations

import errno
import itertools
import re
import traceback
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from micota.config.local_files import text_of_file
from micota.errors import ConfigError

MOST_VALUES = 100_000  # of one file
_ALIAS = re.compile(r"(?:^|[\s\[{,:-])\*\w", re.MULTILINE)
FILES = "hydra._internal.core_plugins.file_config_source"
DEFAULTS = "hydra._internal.defaults_list"
HYDRA_MESSAGES = {  # of a plain ValueError: the beginning of its text, and the accepted form
    "Invalid defaults list in ": "defaults: [OPTION, GROUP: OPTION, _self_]",
    "Unsupported type in defaults": "defaults: [OPTION, GROUP: OPTION, _self_]",
    "Unsupported item value in defaults": "defaults: [OPTION, GROUP: OPTION, _self_]",
    "Config group override must be a string or a list": "GROUP=OPTION, and PART.KEY=VALUE below it",
}


def check_aliases(path: str) -> None:
    """Refuse a file whose aliases repeat each other: of nine lines, nine to the power of nine values.

    Raises:
        ConfigError: it stands for more values than any config has.
    """
    try:
        text = text_of_file(Path(path))
        size = _size(yaml.compose(text, Loader=yaml.SafeLoader), {}) if _ALIAS.search(text) else 0
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return  # which who reads the file refuses
    if size > MOST_VALUES:
        raise ConfigError(f"{path}: its aliases repeat {size} values; accepted: YAML of at most {MOST_VALUES}")


def _size(node: Any, known: dict[int, int]) -> int:
    """The number of values below a node of YAML, with those of aliases each time."""
    if id(node) not in known:
        below = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = itertools.chain.from_iterable(below) if isinstance(node, yaml.MappingNode) else below
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def mistake_in(error: BaseException) -> str | None:
    """Return the line about a file that is no YAML or no UTF-8, or about its defaults; None for other errors."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return (
            f"{mark.name}:{mark.line + 1}: not valid YAML ({error.problem}); accepted: KEY: VALUE, indented by blanks"
        )
    if isinstance(error, yaml.reader.ReaderError):
        return f"{error.name}: not valid YAML ({error.reason}); accepted: text in UTF-8"
    if isinstance(error, UnicodeDecodeError) and (path := _local(error, FILES, "full_path")):
        return f"{path}: not valid YAML ({error}); accepted: text in UTF-8"
    if isinstance(error, RecursionError):
        if path := _local(error, FILES, "full_path"):
            return f"{path}: it is nested too deep, or in itself; accepted: YAML of at most some hundred levels"
        if path := _local(error, DEFAULTS, "path"):
            return f"the defaults of {path} lead back to it; accepted: defaults of other files"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG and (path := _local(error, DEFAULTS, "path")):
        return f"the defaults of {path[:80]} lead back to it; accepted: defaults of other files"
    if type(error) is OSError and str(error).startswith("Invalid loaded object type"):
        return f"{_local(error, FILES, 'full_path')}: {error}; accepted: a map, as KEY: VALUE"
    if isinstance(error, AssertionError) and str(error).startswith("Unexpected type for root"):
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_globals["__name__"] == "omegaconf.omegaconf" and "key" in frame.f_locals:
                key = frame.f_locals["key"]  # OmegaConf asserts that no value goes below a null
                parent = key.rpartition(".")[0]
                return f"{key}={frame.f_locals['value']}: {parent} is null here; accepted: with an option that has it"
    accepted = next((words for text, words in HYDRA_MESSAGES.items() if str(error).startswith(text)), None)
    if not accepted or type(error) is not ValueError:
        return None
    path = _local(error, FILES, "full_path")
    return f"{path + ': ' if path else ''}{error}; accepted: {accepted}"


def _local(error: BaseException, module: str, name: str) -> str | None:
    """A variable of the innermost frame of a module that has it: errors of Hydra lack the file, and no API has it."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_globals["__name__"] == module]
    return next((str(frame.f_locals[name]) for frame in reversed(frames) if name in frame.f_locals), None)
