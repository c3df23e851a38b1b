r"""Gold answers: their types and trees.

The benchmark declares the type, or the form of the answer gives it. ``equality`` decides whether an answer is the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from micota.config import ANSWER_TYPES
from micota.grading.reading.lexicon import ORDER
from micota.grading.reading.moments import CLOCK
from micota.grading.reading.nodes import Node, has
from micota.grading.reading.numerals import decimal
from micota.grading.reading.parser import read
from micota.grading.reading.texts import is_option, is_words, plain
from micota.grading.reading.tidying import tidied
from micota.grading.reading.tokens import UnreadableError
from micota.grading.values.exact import exact

ALTERNATIVES = re.compile(r"\s+##\s+")
_SHAPES = ("tuple", "set", "matrix", "union")
_STRUCTURED = ("list", "tuple", "interval", "matrix")


class GoldError(ValueError):
    """A gold answer that is not of its declared type; the text names the answer and the expected type."""


class Hints(NamedTuple):
    """What the text of the problem says about its answer.

    ``wants_factors`` is whether it asks for a factored form (None where there is no text); ``things`` are the words for
    what it counts.
    """

    wants_factors: bool | None = None
    things: frozenset[str] = frozenset()


NO_HINTS = Hints()


@dataclass(frozen=True)
class Gold:
    """A gold answer, tidied, with the type to compare it by. ``node`` is None for words, and for what cannot be read.

    ``tolerance`` is absolute, or a part of the value where ``is_relative``. ``unit`` is what an answer may end in.
    ``others`` are further golds, each of which is right too.
    """

    text: str
    kind: str
    node: Node | None = None
    tolerance: Fraction | None = None
    is_relative: bool = False
    unit: str = ""
    hints: Hints = NO_HINTS
    others: tuple[Gold, ...] = field(default=(), repr=False)
    is_mathematics: bool = True  # readable, or readable by a worker process perhaps

    @property
    def is_number(self) -> bool:
        return self.kind in ("integer", "number")


@lru_cache(maxsize=65_536)
def gold_of(
    answer: str,
    answer_type: str = "auto",
    tolerance: str | None = None,
    unit: str | None = None,
    hints: Hints = NO_HINTS,
) -> Gold:
    """The gold behind an answer of a declared type; ``auto`` infers the type from the form of the answer. An answer
    ``a ## b`` has two golds.

    Raises:
        GoldError: the answer is not of that type.
    """
    first, *others = ALTERNATIVES.split(answer)
    gold = _one(first, answer_type, tolerance, unit, hints)
    if not others:
        return gold
    return Gold(**vars(gold) | {"others": tuple(_one(other, answer_type, tolerance, unit, hints) for other in others)})


def listed(complaints: list[str], most: int = 20) -> str:
    """All complaints about golds on one line, up to ``most`` of them."""
    if len(complaints) == 1:
        return complaints[0]
    rest = f"; and {len(complaints) - most} more" if len(complaints) > most else ""
    return f"{len(complaints)} bad rows: " + "; ".join(complaints[:most]) + rest


def joined(answers: list[str]) -> str:
    """The answer of a problem with several right answers."""
    return " ## ".join(answers)


def _one(answer: str, answer_type: str, tolerance: str | None, unit: str | None, hints: Hints) -> Gold:
    text = tidied(answer)
    if not text:
        raise GoldError(f"answer {answer!r} is empty; accepted: a gold answer")
    if answer_type not in ANSWER_TYPES:
        raise GoldError(f"answer {answer!r} is not of type {answer_type}; accepted types are {', '.join(ANSWER_TYPES)}")
    node, error = _tree(text, thousands=answer_type != "list", things=hints.things)
    form = inferred(text, node)
    # Collections label a pair as a number, and a list of functions as an expression: trust brackets and commas more.
    is_vague = answer_type == "auto" or (answer_type in ("number", "expression") and form in _STRUCTURED)
    kind = form if is_vague else answer_type
    complaint = _complaint(text, node, kind)
    if complaint:
        raise GoldError(
            f"answer {answer!r} is not of type {kind}: {complaint}; accepted: such a gold, or another answer_type"
        )
    margin, is_relative = _margin(tolerance)
    return Gold(
        text=text, kind=kind, node=None if kind == "text" else node, tolerance=margin, is_relative=is_relative,
        unit=tidied(unit or ""), hints=hints, is_mathematics=error is None or error.is_mathematics,
    )  # fmt: skip


def _tree(text: str, *, thousands: bool, things: frozenset[str]) -> tuple[Node | None, UnreadableError | None]:
    try:
        return read(text, thousands=thousands, extra=things), None
    except UnreadableError as error:
        return None, error


def _margin(tolerance: str | None) -> tuple[Fraction | None, bool]:
    """The tolerance as a number, and whether it is relative (``1%``)."""
    if tolerance is None:
        return None, False
    text = tolerance.strip()
    is_relative = text.endswith("%")
    if not re.fullmatch(r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?\s*%?", text):
        raise GoldError(
            f"tolerance {tolerance!r}; accepted: a number of at least 0, as 0.1 or 1e-1, or a percentage, as 1%"
        )
    value = decimal(text.rstrip("% "))
    return (value / 100 if is_relative else value), is_relative


def is_settled(gold: Gold) -> bool:
    """Whether a gold can be compared here: words, or mathematics that has a tree."""
    return gold.kind == "text" or gold.node is not None


def _complaint(text: str, node: Node | None, kind: str) -> str | None:
    """Why the form of a text does not fit this type, or None where it fits."""
    if not is_balanced(text):
        return "its braces do not match"
    if kind == "integer":
        value = None if node is None else exact(bare(node))
        if value is None or value.denominator != 1:
            return "expected an integer"
    if kind in ("number", "expression", "interval") and is_words(text) and node is None:
        return "expected mathematics, found words"
    if kind == "number" and node is not None and node.head == "symbol":
        return "expected a number, found a letter"
    if kind == "matrix" and node is not None and exact(bare(node)) is not None:
        return "expected a matrix, found a number"
    if kind == "tuple" and (node is None or node.head not in ("tuple", "matrix", "relation")):
        return "expected (a, b, ...)"
    if kind == "interval" and not any(
        mark in text for mark in ("(", "[", r"\le", r"\ge", "<", ">", r"\{", "mathbb", "real", "!=", r"\ne")
    ):
        return "expected an interval such as (0, 1]"
    return None


def is_balanced(text: str) -> bool:
    """Whether every curly brace that groups is closed."""
    depth = 0
    for match in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth < 0:
            return False
    return depth == 0


def bare(node: Node) -> Node:
    """A value without its unit, sign of degrees or name before it."""
    while True:
        if node.head in ("quantity", "degrees"):
            node = node.args[0]
        elif node.head == "negative" and node.args[0].head in ("quantity", "degrees"):
            node = Node("negative", (bare(node.args[0]),))
        else:
            return node


def inferred(text: str, node: Node | None) -> str:
    """The type that a tidied answer has by its form."""
    if is_option(text) or CLOCK.match(plain(text)):
        return "text"
    if node is None:
        return "text" if is_words(text) or re.fullmatch(r"\\(?:text|mbox|textrm)\s*\{[^{}]*\}", text) else "expression"
    if exact(bare(node)) is not None:
        return "number"
    if node.head == "relation" and (node.name == "in" or (node.name == "=" and node.args[1].head in _SHAPES)):
        node = node.args[-1]
    if node.head == "matrix":
        return "matrix"
    if node.head in ("union", "intersection", "minus", "such", "named") or (
        node.head == "relation" and set(node.name.split()) <= ORDER
    ):
        return "interval"
    if node.head == "list":
        return "interval" if _is_set_of_inequalities(node) else "list"
    if node.head == "set" or has(node, "plusminus"):
        return "list"
    if node.head == "tuple":
        return "tuple" if node.name in ("()", "<>") else "interval"
    return "expression"


def _is_set_of_inequalities(node: Node) -> bool:
    """``x < 1 or x > 2``; ``(0, 1) \\text{ or } (2, 3)``, whose brackets are those of intervals."""
    if all(part.head == "relation" and set(part.name.split()) <= ORDER for part in node.args):
        return True
    return (
        node.name == "or"
        and all(part.head in ("tuple", "union") for part in node.args)
        and any(part.head == "tuple" and part.name not in ("()", "<>") for part in node.args)
    )
