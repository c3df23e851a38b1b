"""Maps in overrides: ``data.columns={problem: question}``, ``student.template_args.enable_thinking=false`` and
``bench.mine.path=FILE`` add their entries.

Hydra adds an entry to a map of values only with a plus before the key, and never one to a map of typed parts. What
such a map may hold is open, so that a new entry is no typing error. So values get their plus, and the path of a part
becomes an option that is stored here and appended.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore

from micota.config.quoting import plain_value
from micota.config.schemas import Config

AXIS = re.compile(r"\+{0,2}compare\.axes\.([\w@]+\.[\w.@]+)=(.*)")
_typed: dict[str, str] = {}  # by the override that Hydra gets, the one that the user typed


def with_entries(overrides: Iterable[str]) -> list[str]:
    """Return overrides in which new entries of maps are what Hydra accepts."""
    values, paths = _patterns()
    changed = []
    for override in overrides:
        if axis := AXIS.fullmatch(override):  # its name has dots, which Hydra would follow
            changed.append(f"++compare.axes={{{axis[1]}: {axis[2]}}}")
            _typed[changed[-1]] = override
        elif (entry := paths.fullmatch(override)) and entry[3] not in ("", "null"):
            changed.append(_stored(entry[1], entry[2], plain_value(entry[3])))
            _typed[changed[-1]] = override
        else:
            changed.append(f"++{override}" if values.match(override) else override)
    return changed


def as_given(override: str) -> str:
    """Return an override as a user types it: the reverse of :func:`with_entries`."""
    bare = override.removeprefix("++")
    return _typed.get(override) or (bare if _patterns()[0].match(bare) else override)


def _stored(parent: str, name: str, path: str) -> str:
    """Store an option that sets the path of an entry, and return the override that appends it."""
    # Hydra's names of groups have letters of ASCII alone.
    group = f"_path_of_{parent.replace('.', '_')}_{name if name.isascii() else name.encode().hex()}"
    ConfigStore.instance().store(group=group, name="given", package=parent, node={name: {"path": path}})
    return f"+{group}=given"


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """The overrides that give a map of values or an entry of it, and those that give the path of a part in a map."""
    keys = list(_maps(Config, ""))
    values = "|".join(key for key, is_part in keys if not is_part)
    parts = "|".join(key for key, is_part in keys if is_part)
    return re.compile(rf"(?:{values})(?:\.[\w.-]+=|=\{{)"), re.compile(rf"({parts})\.([\w-]+)\.path=(.*)")


def _maps(schema: Any, prefix: str) -> Iterator[tuple[str, bool]]:
    """The keys of all maps, as patterns, and whether their values are parts of the config."""
    for name, hint in get_type_hints(schema).items():
        if get_origin(hint) is dict:
            value = get_args(hint)[1]
            yield f"{prefix}{name}", is_dataclass(value)
            if is_dataclass(value):
                yield from _maps(value, rf"{prefix}{name}\.[\w-]+\.")
            continue
        for kind in (hint, *get_args(hint)):
            if is_dataclass(kind):
                yield from _maps(kind, rf"{prefix}{name}\.")
