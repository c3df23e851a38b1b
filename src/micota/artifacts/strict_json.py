"""JSON of users: an object that names a key twice is refused, where Python would take the last value without a word."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def strict_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError, RecursionError: it is no JSON, nested too deep, or names a key twice.
    """
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError(f"it names the key {repeated(name for name, _ in pairs)!r} twice")
    return content


def repeated(names: Iterable[str]) -> str | None:
    """The first of the names that stands there more than once; None where each is there once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def mistake_in_object(file: Path) -> str | None:
    """What is wrong with a file that should hold one JSON object, in words; None if nothing is."""
    try:
        content = strict_json(file.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        return f"not UTF-8 ({error.reason} at byte {error.start})"
    except (ValueError, RecursionError) as error:
        return f"not valid JSON ({error})"
    return None if isinstance(content, dict) else f"it holds {type(content).__name__}, and no JSON object"
