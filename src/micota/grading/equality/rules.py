"""The comparers of answer types: one each, registered under the name of its type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from micota.config import ANSWER_TYPES
from micota.grading.gold import Gold
from micota.grading.reading.nodes import Node

Equivalent = Callable[[str, str, Fraction | None], bool | None]


@dataclass(frozen=True)
class Comparison:
    """What a comparer needs beside the two trees: the gold, and the text of the answer."""

    gold: Gold
    text: str

    @property
    def is_exact(self) -> bool:
        return self.gold.tolerance is None


Comparer = Callable[[Node, Node, Comparison], bool | None]
COMPARERS: dict[str, Comparer] = {}


def comparer(*kinds: str) -> Callable[[Comparer], Comparer]:
    """Register the comparer of these answer types.

    Raises:
        TypeError: a type is not one of ``ANSWER_TYPES``, or has a comparer.
    """

    def register(function: Comparer) -> Comparer:
        for kind in kinds:
            if kind not in ANSWER_TYPES or kind in COMPARERS:
                raise TypeError(f"answer type {kind!r} is unknown or has a comparer")
            COMPARERS[kind] = function
        return function

    return register


def every(verdicts: list[bool | None]) -> bool | None:
    return False if False in verdicts else None if None in verdicts else True


def check_complete() -> None:
    """Refuse an answer type without a comparer, as soon as all are registered.

    Raises:
        TypeError: a type has no comparer.
    """
    missing = set(ANSWER_TYPES) - COMPARERS.keys() - {"auto", "text"}
    if missing:
        raise TypeError(f"no comparer for {', '.join(sorted(missing))}")
