"""Keys of the command line that have no effect beside the values of other keys, for a note before anything is made.

They are not refused: one command line serves several commands and the cases of an axis, and a key may count in some.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from micota.config.fields import declaration
from micota.config.filters import FILTERS
from micota.config.merge_methods import MERGE_METHODS
from micota.config.mergekit import MERGEKIT
from micota.config.merging import MergeConfig
from micota.config.method import SelectConfig
from micota.config.objective import SFT
from micota.config.parse import override_key
from micota.config.schemas import Config, TrainConfig

Conditions = tuple[str, ...]


def keys_without_effect(config: Config) -> list[str]:
    """A sentence for each key of the command line that changes nothing beside the others."""
    varied = _varied(config)
    notes = [*_of_role(config)]
    for item in config.overrides:
        for owner, conditions in _conditions(config, override_key(item).split(".")):
            unmet = [one for one in conditions if not _holds(config, owner, one)]
            if unmet and owner.partition(".")[0] not in varied:
                name, sign, value = _parts(unmet[0])
                key = ".".join(filter(None, [owner, name]))
                seen = _text(_value(config, key))
                other = f"{key}={value}" if sign == "=" else f"another {key}"
                notes.append(f"{item} has no effect with {key}={seen}; it counts with {other}")
                break
    return notes


def _of_role(config: Config) -> Iterator[str]:
    """The TA learns by SFT, whatever the objective of the student, and by settings of its own."""
    if not isinstance(config, TrainConfig) or config.role != "ta":
        return
    for item in config.overrides:
        key = override_key(item)
        if key.startswith("objective") and config.objective.name != SFT:
            yield f"{item} has no effect with role=ta: the TA learns by objective=sft; it counts with role=student"
        if key.startswith("student.sft."):
            own = f"ta{key.removeprefix('student')}"
            yield f"{item} has no effect with role=ta; it counts with role=student, and {own} here"


def _varied(config: Config) -> set[str]:
    """The first parts of the keys that differ between the cases of a comparison."""
    points = [point for axis in ("data", *config.compare.axes) for point in config.compare.points(axis)]
    return {override_key(item).partition(".")[0] for point in points for item in point.overrides} - {"data"}


def _conditions(config: Config, path: list[str]) -> Iterator[tuple[str, Conditions]]:
    """The conditions under which a key counts, each with the dotted key of the part of the config that it is about."""
    part: Any = config
    for depth, name in enumerate(path):
        if is_dataclass(part):
            item = next((item for item in fields(part) if item.name == name), None)
            if item is None:
                return
            yield ".".join(path[:depth]), (*declaration(item).counts_with, *_of_tables(part, name))
            part = getattr(part, name)
        elif isinstance(part, dict) and name in part:
            part = part[name]
        else:
            return


def _of_tables(part: Any, name: str) -> Conditions:
    """The conditions that the tables of methods and filters have."""
    if isinstance(part, MergeConfig) and name.startswith("instruct_") and not part.has_instruct:
        return ("instruct.path!=null",)
    if isinstance(part, MergeConfig) and part.method in MERGE_METHODS and part.method != MERGEKIT:
        readers = [method for method in MERGE_METHODS if MERGE_METHODS[method].reads(name)]
        return () if part.method in readers else (f"method={', '.join(readers)}",)
    if isinstance(part, SelectConfig):
        readers = [filter_name for filter_name in FILTERS if name in FILTERS[filter_name].settings]
        return (f"filters={', '.join(readers)}",) if readers else ()
    return ()


def _parts(condition: str) -> tuple[str, str, str]:
    """Name, sign and values of ``name=a, b`` or ``name!=a``."""
    name, _, value = condition.partition("=")
    return name.removesuffix("!"), "!=" if name.endswith("!") else "=", value


def _holds(config: Config, owner: str, condition: str) -> bool:
    name, sign, values = _parts(condition)
    value = _value(config, ".".join(filter(None, [owner, name])))
    chosen = {_text(one) for one in (value if isinstance(value, list) else [value])}
    return bool(chosen & set(values.split(", "))) == (sign == "=")


def _value(part: Any, path: str) -> Any:
    """The value at a dotted key; None below a null."""
    for name in path.split("."):
        part = part.get(name) if isinstance(part, dict) else getattr(part, name, None)
    return part


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value).replace("'", "")
