"""Which rows of a file or set are used: ``data.only``, columns and the values that they must have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from micota.data.shapes import has_column, value_at
from micota.data.training_rows import is_missing, truth
from micota.errors import SourceError


def is_wanted(row: Mapping[str, Any], where: str, only: Mapping[str, Any]) -> bool:
    """Whether a row has one of the wanted values in each of the columns.

    Raises:
        SourceError: it lacks a column.
    """
    return all(_is_one_of(_value(row, name, where), accepted) for name, accepted in only.items())


def _value(row: Mapping[str, Any], column: str, where: str) -> Any:
    if not has_column(row, column):
        raise SourceError(
            f"{where}: data.only names {column}: there is no such column; it has {', '.join(row)}; "
            "accepted: one of its columns"
        )
    return value_at(row, column)


def _is_one_of(value: Any, accepted: Any) -> bool:
    """Whether a value is one of those of ``data.only``. Files of text have numbers, truth values and nulls as words."""
    return any(_is_same(value, one) for one in (accepted if isinstance(accepted, list) else [accepted]))


def _is_same(value: Any, accepted: Any) -> bool:
    if accepted is None:
        return is_missing(value) or value == ""
    if isinstance(value, str) == isinstance(accepted, str):
        return bool(value == accepted)
    word, other = (value, accepted) if isinstance(value, str) else (accepted, value)
    if isinstance(other, bool):
        return truth(word) is other
    try:
        return isinstance(other, int | float) and float(word) == other
    except ValueError:
        return False
