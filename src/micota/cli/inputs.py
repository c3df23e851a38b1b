"""The rows and models that a config names: what is here gets a fingerprint, and what is nowhere is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from micota.artifacts.local import fingerprint
from micota.artifacts.strict_json import mistake_in_object
from micota.artifacts.sums import sums_below
from micota.config.fields import declaration
from micota.config.local_files import MOST_FILES, is_huge, special
from micota.config.models import MODEL_FILES, ModelConfig, ReleasedConfig, is_hub_id, is_row_file, local_path
from micota.config.rows import RowsConfig
from micota.data.files import BUNDLED, bundled
from micota.errors import ConfigError, SourceError

OTHER_FILES = ("tokenizer_config.json", "generation_config.json", "model.safetensors.index.json")


def fingerprint_inputs(config: Any) -> None:
    """Let every part of a config that names a file or folder here know what is in it.

    Raises:
        ConfigError: there is no such file or folder.
    """
    for path, owner in inputs(config):
        key = f"{path}.path" if path else "path"
        if not is_local(owner):
            _check_name(key, owner)
            continue
        if not local_path(owner.path).exists():
            raise ConfigError(f"{key}={owner.path!r}: there is no such file or folder; accepted: {_accepted(owner)}")
        owner.path = str(local_path(owner.path))
        _check_kind(key, owner)
        if isinstance(owner, ModelConfig | ReleasedConfig):
            _check_model(key, Path(owner.path))
        plain = Path(os.path.normpath(owner.path))  # another spelling is no other input
        if plain.exists() and plain.samefile(owner.path):  # LINK/.. may lead elsewhere
            owner.path = str(plain)
        try:
            owner.fingerprint = fingerprint(Path(owner.path), sums_below(Path(config.artifacts)))
        except OSError as error:
            raise ConfigError(f"{key}={owner.path!r} cannot be read ({error}); accepted: {_accepted(owner)}") from error


def _check_kind(key: str, owner: Any) -> None:
    """Refuse what has no end that a reader would come to, or more files than anyone means."""
    path = Path(owner.path)
    if (kind := special(path)) is not None:
        raise ConfigError(f"{key}={owner.path!r} is {kind}; accepted: {_accepted(owner)}")
    if path.is_dir() and is_huge(path):
        raise ConfigError(
            f"{key}={owner.path!r}: the folder has more than {MOST_FILES} files; accepted: one with the files of this "
            f"input alone ({_accepted(owner)})"
        )


def _accepted(owner: Any) -> str:
    """The values of a path, in words."""
    return str(next(declaration(item).accepted for item in fields(owner) if item.name == "path"))


def _check_name(key: str, owner: Any) -> None:
    """Refuse a path that is no file or folder here and cannot be an id of the hub."""
    name, is_rows = owner.path, isinstance(owner, RowsConfig)
    if name.startswith(BUNDLED):
        try:
            bundled("models" if isinstance(owner, ModelConfig | ReleasedConfig) else "problems", name)
        except SourceError as error:
            raise ConfigError(f"{key}={error}") from None
        return
    if isinstance(owner, ModelConfig | ReleasedConfig) and name.startswith("hub:"):
        raise ConfigError(f"{key}={name!r}: hub: is of rows alone; accepted: {name.removeprefix('hub:')} for a model")
    # Rows of the hub are hub:ORG/NAME; a word alone is more likely a file that is not here.
    if (is_rows and not name.startswith("hub:") and "/" not in name) or not is_hub_id(name.removeprefix("hub:")):
        raise ConfigError(f"{key}={name!r}: there is no such file or folder; accepted: {_accepted(owner)}")


def _check_model(key: str, path: Path) -> None:
    if not path.is_dir():
        raise ConfigError(f"{key}={str(path)!r} is a file; accepted: a folder with one of {', '.join(MODEL_FILES)}")
    if not any((path / name).exists() for name in MODEL_FILES):
        held = ", ".join(sorted(entry.name for entry in islice(path.iterdir(), 5))) or "nothing"
        raise ConfigError(
            f"{key}={str(path)!r}: the folder is no model (it has {held}); accepted: a folder with "
            f"{' or '.join(MODEL_FILES)}"
        )
    for name in (*MODEL_FILES, *OTHER_FILES):
        if (path / name).is_file() and (mistake := mistake_in_object(path / name)) is not None:
            raise ConfigError(f"{key}={str(path)!r}: {name}: {mistake}; accepted: one JSON object with each key once")


def inputs(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every part of a config whose ``path`` names rows or a model, with its dotted key."""
    if isinstance(node, dict):
        for key, child in node.items():
            yield from inputs(child, f"{path}.{key}")
    if not is_dataclass(node):
        return
    if getattr(node, "path", None) is not None and hasattr(node, "fingerprint"):
        yield path.lstrip("."), node
    for item in fields(node):
        yield from inputs(getattr(node, item.name), f"{path}.{item.name}")


def is_local(owner: Any) -> bool:
    """Whether the path of a part of a config is that of a file or folder here, by its form or since it is there."""
    looks_local = owner.path.startswith((".", "/", "~")) or is_row_file(owner.path)
    return not owner.path.startswith(("bundled:", "hub:")) and (looks_local or Path(owner.path).exists())
