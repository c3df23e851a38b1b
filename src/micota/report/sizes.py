"""Family and size of a model, from its path: names of models have both."""

from __future__ import annotations

import re

SIZE = re.compile(r"(\d+(?:\.\d+)?)([bBmMkK])")
PER_BILLION = {"b": 1, "m": 10**3, "k": 10**6}


def size_of(path: str) -> float | None:
    """Return the billions of parameters that a path names, as 3.0 for ``Qwen/Qwen2.5-3B-Instruct``; None without."""
    for word in _words(path):
        if found := SIZE.fullmatch(word):
            return float(found[1]) / PER_BILLION[found[2].lower()]
    return None


def in_words(size: float) -> str:
    """Return a number of parameters, in billions, with the unit that fits it, as 33k or 1.5B."""
    unit = next((unit for unit, number in PER_BILLION.items() if size * number >= 1), "k")
    return f"{size * PER_BILLION[unit]:.3g}{unit if unit == 'k' else unit.upper()}"


def family_of(path: str) -> str:
    """Return the name of a model without its size and version, as ``Qwen-Instruct``."""
    words = [word for word in _words(path) if not SIZE.fullmatch(word) and not re.fullmatch(r"[\d.]+", word)]
    return "-".join(re.sub(r"[\d.]+$", "", word) or word for word in words)


def _words(path: str) -> list[str]:
    return path.rstrip("/").rpartition("/")[2].removeprefix("bundled:").split("-")
