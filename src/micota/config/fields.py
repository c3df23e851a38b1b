"""How a field of a schema is declared: with what it accepts, in words and as a check."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING as REQUIRED
from dataclasses import field
from typing import Any


class Words:
    """A text about a table, made when it is read: the table may grow until then."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make

    def __str__(self) -> str:
        return self._make()


def where(
    accepted: str | Words, check: Callable[[Any], bool], default: Any = REQUIRED, *, default_factory: Any = REQUIRED
) -> Any:
    """Declare a dataclass field whose value must pass ``check``; ``accepted`` says so in words."""
    return field(default=default, default_factory=default_factory, metadata={"accepted": accepted, "check": check})


def choice(*options: str, default: Any = REQUIRED) -> Any:
    """A field that is one of a few words."""
    return where("one of " + ", ".join(options), lambda value: value in options, default)


def one_of(table: Mapping[str, Any], default: Any = REQUIRED) -> Any:
    """A field that is one of the names of a table, which may grow."""
    return where(Words(lambda: "one of " + ", ".join(table)), lambda value: value in table, default)


def positive(default: Any = REQUIRED) -> Any:
    """A field above 0; where it may be null, null stands for no limit."""
    return where("a number above 0", lambda value: value is None or 0 < value < math.inf, default)


def fraction(default: Any = REQUIRED) -> Any:
    """A field from 0 to 1."""
    return where("a number from 0 to 1", lambda value: 0 <= value <= 1, default)


def non_negative(default: Any = REQUIRED) -> Any:
    """A field of at least 0."""
    return where("a number of at least 0", lambda value: 0 <= value < math.inf, default)


def shares() -> Any:
    """A list of at least one number above 0 and at most 1."""
    accepted = "a list of at least one number above 0 and at most 1"
    return where(accepted, lambda values: bool(values) and all(0 < value <= 1 for value in values))


def slug(default: Any = REQUIRED) -> Any:
    """A name that becomes part of a folder's name."""
    accepted = "letters, digits, dot, dash and underscore"
    return where(accepted, lambda value: bool(value) and all(c.isalnum() or c in "._-" for c in value), default)


SMALLEST = 5e-324  # the least number above 0
BY_TENSOR = ", or a list of such (a gradient over the layers), or a list of {filter, value} of which the first fits"


def by_tensor(lowest: float, default: Any = REQUIRED) -> Any:
    """A share above 0 and at most 1: one number, a gradient over layers, or values by module (from ``lowest`` on)."""

    def is_share(value: Any, lowest: float) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and lowest <= value <= 1

    def is_gradient(value: Any) -> bool:
        return isinstance(value, list) and bool(value) and all(is_share(item, lowest) for item in value)

    def is_value(item: Any) -> bool:
        return isinstance(item, dict) and item.keys() <= {"filter", "value"} and fits(item.get("value"), lowest)

    def fits(value: Any, lowest: float = SMALLEST) -> bool:
        listed = isinstance(value, list) and bool(value) and all(is_value(item) for item in value)
        return listed or is_gradient(value) or is_share(value, lowest)

    return where("a number above 0 and at most 1" + BY_TENSOR, fits, default)


def numbers(setting: Any) -> list[float]:
    """All numbers of a setting that may differ between tensors."""
    if isinstance(setting, list):
        return [value for item in setting for value in numbers(item["value"] if isinstance(item, dict) else item)]
    return [float(setting)]
