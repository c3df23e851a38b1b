"""The table of shapes of training rows; the entries are in micota.data.shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from micota.config.registry import Registry

Columns = Mapping[str, tuple[str, ...]]  # by field, the columns that may hold it, the first that a row has wins


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The columns of a kind of training rows.

    Args:
        name: for messages and the documentation.
        about: what a row is, in one line.
        needs: the fields that a row must have; a row is of the first shape whose fields it has.
        takes: the fields that a row may have beside them, in addition to those of every shape.
        lacks: columns that no row of the shape has: with one of them, it is of another shape.
        read: of the fields of a row and what the recipe sets, the training rows it holds.
    """

    name: str
    about: str
    needs: Columns
    takes: Columns = field(default_factory=dict)
    lacks: tuple[str, ...] = ()
    read: Callable[[Any, Any], Iterable[Any]]


SHAPES: Registry[Shape] = Registry("row shape", home="micota.data.shapes")

# What a row of any shape may have.
ALWAYS: Columns = {
    "id": ("id", "problem_id", "uuid", "unique_id"),
    "gold": ("gold", "answer", "final_answer", "expected_answer"),
    "num_tokens": ("num_tokens",),
    "verdict": ("correct", "is_correct", "label"),  # booleans alone: such columns also hold answers and classes
    "finish_reason": ("finish_reason", "stop_reason"),
    "tools": ("tools",),  # refused: templates would not show them
}


def fields_of(shape: Shape) -> Columns:
    """All fields of a shape, with the columns that may hold them."""
    return {**shape.needs, **shape.takes, **ALWAYS}


def known_fields() -> list[str]:
    """The fields of all shapes, each once."""
    return list(dict.fromkeys(name for shape in SHAPES.values() for name in fields_of(shape)))
