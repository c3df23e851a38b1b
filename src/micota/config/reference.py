"""The reference of all config keys, generated from the dataclasses: only they describe what a key means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from itertools import groupby
from typing import Any, get_args, get_origin, get_type_hints

from micota.config.commands import SCHEMAS
from micota.config.fields import Declaration, declaration
from micota.config.schemas import Config

NAME = "NAME"  # stands for a key of a map that users choose, as in bench.NAME.path
HEADER = ("| key | meaning | unit | type | accepted | default | changes results |", "|---|---|---|---|---|---|---|")


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of a command, as a user types it.

    Args:
        key: dotted, with NAME for a key of a map (``bench.NAME.path``).
        default: the value without any override, as YAML, or empty where an option of the group gives it.
        changes_results: whether another value enters the key of an artifact, at this position.
        is_part: whether it is a dataclass or a map of dataclasses, whose fields are keys too.
    """

    key: str
    about: str
    unit: str
    type: str
    accepted: str
    default: str
    changes_results: bool
    is_part: bool
    is_internal: bool


def keys(schema: type[Config], config: Config | None = None) -> list[Key]:
    """All keys of a command, in the order of its schema.

    Args:
        schema: of the command.
        config: the config that the command composes without overrides; None takes the defaults of the dataclasses.
    """
    return list(_walk(schema, config, "", True, frozenset()))


def _walk(owner: type[Any], value: Any, path: str, counts: bool, unused: frozenset[str]) -> Iterator[Key]:
    hints = get_type_hints(owner)
    for item in fields(owner):
        declared, key = declaration(item), f"{path}{item.name}"
        here = counts and declared.results and item.name not in unused
        below = schema_below(hints[item.name])
        yield _key(key, item, declared, hints[item.name], _value(item, value), here, below is not None)
        if below is not None and not declared.same_as:
            is_map = _is_map(hints[item.name])
            inner = None if is_map or value is None else getattr(value, item.name)
            inside = f"{key}.{NAME}." if is_map else f"{key}."
            for inner_key in _walk(below, inner, inside, here, frozenset(declared.unused)):
                yield inner_key if not declared.internal else _hidden(inner_key)


def _hidden(key: Key) -> Key:
    return Key(**{**vars(key), "is_internal": True})


def _key(
    key: str, item: Field[Any], declared: Declaration, hint: Any, value: Any, changes_results: bool, is_part: bool
) -> Key:
    return Key(
        key=key,
        about=declared.about,
        unit=declared.unit,
        type=_type_name(hint),
        accepted=str(declared.accepted),
        default="" if is_part or value is MISSING else _yaml(value),
        changes_results=changes_results,
        is_part=is_part,
        is_internal=declared.internal,
    )


def _value(item: Field[Any], owner: Any) -> Any:
    """The value of a field without overrides."""
    if owner is not None:
        return getattr(owner, item.name)
    return item.default_factory() if item.default_factory is not MISSING else item.default


def schema_below(hint: Any) -> type[Any] | None:
    """The dataclass in a field's type (also beside null, or as the values of a map); None for plain values."""
    if _is_map(hint):
        return schema_below(get_args(hint)[1])
    schema = next((part for part in (hint, *get_args(hint)) if is_dataclass(part)), None)
    return schema if isinstance(schema, type) else None


def _is_map(hint: Any) -> bool:
    return get_origin(hint) is dict


def _type_name(hint: Any) -> str:
    """A type in the words of YAML."""
    if hint is Any:
        return "number or list"
    if get_origin(hint) is list:
        return f"list of {_type_name(get_args(hint)[0])}" if get_args(hint)[0] is not Any else "list"
    if _is_map(hint) or is_dataclass(hint):
        return "map"
    names = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null"}
    parts = get_args(hint) or (hint,)
    return " or ".join(dict.fromkeys(names.get(part, "map") for part in parts))


def _yaml(value: Any) -> str:
    """A default as YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(inner)}" for key, inner in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def reference(configs: Mapping[str, Config] | None = None) -> str:
    """All keys of all commands as Markdown: those that every command has by part, then those of one command.

    Args:
        configs: by command, the config that it composes without overrides, for the column of defaults.

    Raises:
        TypeError: a field has no declaration.
    """
    configs = configs or {}
    every = [key for key in keys(Config, next(iter(configs.values()), None)) if not key.is_internal]
    plain = [key for key in every if "." not in key.key and not key.is_part]
    lines = ["## Keys of every command", "", *table(plain)]
    for name, group in groupby(every, key=lambda key: key.key.partition(".")[0]):
        part, *inner = group
        if part.is_part:
            lines += ["", f"### {name}", "", part.about, "", *table(inner)]
    for command in SCHEMAS:
        if specific := keys_alone(command, configs.get(command)):
            lines += ["", f"## Keys of {command} alone", "", *table(specific)]
    return "\n".join(lines) + "\n"


def keys_alone(command: str, config: Config | None = None) -> list[Key]:
    """The keys that only this command has."""
    shared = {item.name for item in fields(Config)}
    return [key for key in keys(SCHEMAS[command], config) if key.key.partition(".")[0] not in shared]


def table(listed: list[Key]) -> list[str]:
    """Keys as lines of a Markdown table, without internal ones."""
    return [*HEADER, *(_row(key) for key in listed if not key.is_internal)]


def _row(key: Key) -> str:
    default = f"`{_cell(key.default)}`" if key.default else ""
    changes = "yes" if key.changes_results else "no"
    cells = [f"`{key.key}`", _cell(key.about), key.unit, key.type, _cell(key.accepted), default, changes]
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
