r"""Gold answers: their types and parts.

The benchmark declares the type, or the form of the answer gives it. This module handles text and exact values;
``typed`` decides whether two answers are equal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from micota.config import ANSWER_TYPES
from micota.grading import exact
from micota.grading.latex import NEW_ROW, closing, compact, is_balanced, is_words, split_top, tidy, without_text

COMMA = re.compile(r",|;|\\text\{\s*(?:and|or)\s*\}|\band\b|\bor\b|\\(?:lor|vee)(?![a-zA-Z])")
UNION = re.compile(r"\\cup(?![a-zA-Z])|\bU\b|\\text\{\s*(?:or|U)\s*\}|\bor\b")
_ROW = re.compile(NEW_ROW)
_CELL = re.compile(r"&")
MEMBERSHIP = re.compile(r"^[a-zA-Z](?:_\{?\w+\}?)?\s*\\in(?![a-zA-Z])\s*")
_LEFT_SIDE = re.compile(
    r"^(?:\\?[a-zA-Z]+(?:_\{[^{}]*\}|_\w)?'*(?:\([^()=]*\))?|\\(?:angle|overline|text|triangle)[^=]*"
    r"|[A-Z ]+|\([^()=]*\))\s*=\s*(?!.*=)"
)
_PLUS_MINUS = re.compile(r"\\pm(?![a-zA-Z])")
MATRIX = re.compile(r"^\\begin\{pmatrix\}(.*)\\end\{pmatrix\}$", re.DOTALL)
OPTION = re.compile(r"^\(?([A-Z])\)?$")
_CURRENCY = re.compile(r"^[£€¥]\s*|^USD\s*|\s*(?:\\text\{\s*)?(?:USD|dollars?)(?:\s*\})?$")
PERCENT = re.compile(r"\s*(?:%|\bpercent\b|\\text\{\s*(?:percent|%)\s*\})\s*$")
DEGREES = re.compile(r"\s*(?:\^\\circ\s*[CFK]?|\bdegrees?\b|\\text\{\s*degrees?\s*\})\s*$")
_SCALE = re.compile(r"\s*(?:\\text\{\s*)?\b(thousand|million|billion|trillion)\b", re.IGNORECASE)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_UNIT_WORDS = re.compile(r"\s*/?\s*[a-zA-Z]{2,}[a-zA-Z\s./'-]*(?:\^\{?\d\}?)?\s*$|\s+[mgshLlNJWV](?:\^\{?\d\}?)?\s*$")
_STRUCTURED = ("list", "tuple", "interval", "matrix")
CLOCK = re.compile(r"^(\d{1,2}:\d\d)(?:\s*([ap])\.?\s*m)?")
SPACED_COMMA = re.compile(r",(?=\s)|;|\\text\{\s*(?:and|or)\s*\}|\band\b|\bor\b|\\(?:lor|vee)(?![a-zA-Z])")


class GoldError(ValueError):
    """A gold answer that is not of its declared type; the text names the answer and the expected type."""


@dataclass(frozen=True)
class Gold:
    """A gold answer, tidied, with the type to compare it by. ``parts`` are those of a list, tuple, interval or
    matrix; ``unit`` is what a prediction may end in."""

    text: str
    kind: str
    parts: tuple[str, ...] = ()
    tolerance: Fraction | None = None
    unit: str = ""

    @property
    def is_number(self) -> bool:
        return self.kind in ("integer", "number")


@lru_cache(maxsize=65_536)
def gold_of(answer: str, answer_type: str = "auto", tolerance: str | None = None, unit: str | None = None) -> Gold:
    """The gold behind an answer of a declared type; ``auto`` infers the type from the form of the answer.

    Raises:
        GoldError: the answer is not of that type.
    """
    text = MEMBERSHIP.sub("", tidy(answer))
    form = inferred(text)
    # Collections label a pair as a number, and a list of functions as an expression: trust brackets and commas more.
    is_vague = answer_type == "auto" or (answer_type in ("number", "expression") and form in _STRUCTURED)
    kind = form if is_vague else answer_type
    margin = None if tolerance is None else exact.value(_plain_power(tolerance))
    if tolerance is not None and (margin is None or margin < 0):
        raise GoldError(f"tolerance {tolerance!r}; accepted: a number of at least 0, as 0.1 or 1e-1")
    if not text:
        raise GoldError(f"answer {answer!r} is empty")
    complaint = _complaint(text, kind)
    if complaint:
        raise GoldError(f"answer {answer!r} is not of type {kind}: {complaint}")
    return Gold(text=text, kind=kind, parts=tuple(_parts(text, kind)), tolerance=margin, unit=tidy(unit or ""))


def is_settled(gold: Gold) -> bool:
    """Whether a gold is plain: words, or numbers that have an exact value."""
    if gold.kind == "text":
        return True
    if gold.kind == "interval":
        return all(number_in(end) is not None or "infty" in end for part in gold.parts for end in coordinates(part))
    return all(number_in(part) is not None or re.fullmatch(r"\d+x\d+", part) for part in gold.parts or (gold.text,))


def _plain_power(tolerance: str) -> str:
    r"""``1e-1`` as ``1*10^{-1}``."""
    return re.sub(r"[eE]([-+]?\d+)$", r"*10^{\1}", tolerance.strip())


def _complaint(text: str, kind: str) -> str | None:
    """Why the form of a text does not fit this type, or None where it fits."""
    if kind not in ANSWER_TYPES:
        return f"accepted types are {', '.join(ANSWER_TYPES)}"
    if not is_balanced(text):
        return "its braces do not match"
    number = number_in(text)
    if kind == "integer" and (number is None or number.denominator != 1):
        return "expected an integer"
    if kind in ("number", "expression", "interval") and is_words(text):
        return "expected mathematics, found words"
    if kind == "tuple" and not is_bracketed(text) and not MATRIX.match(text):
        return "expected (a, b, ...)"
    if kind == "interval" and not any(mark in text for mark in ("(", "[", r"\le", r"\ge", "<", ">", r"\{")):
        return "expected an interval such as (0, 1]"
    return None


def inferred(text: str) -> str:
    """The type that a tidied answer has by its form."""
    if number_in(text) is not None:
        return "number"
    if text.startswith("\\{") and text.endswith("\\}"):
        return "list"
    if MATRIX.match(text):
        return "matrix"
    if OPTION.match(compact(text)) or is_words(text) or CLOCK.match(text) or re.match(r"^\\text\{[^{}]*\}$", text):
        return "text"
    if len(split_top(text, UNION)) > 1 and any(bracket in text for bracket in "([{"):
        return "interval"
    if len(split_top(text, COMMA)) > 1 or _PLUS_MINUS.search(text):
        return "list"
    if is_bracketed(text):
        ends = text[0] + text[-1]
        return "tuple" if ends == "()" else "interval"
    return "expression"


def is_bracketed(text: str) -> bool:
    """Whether a text is one pair of round or square (or mixed) brackets around at least two parts."""
    if not text or text[0] not in "([" or closing(text, 0) != len(text) - 1 or text[-1] not in ")]":
        return False
    return len(split_top(text[1:-1], COMMA)) > 1


def _parts(text: str, kind: str) -> list[str]:
    """The parts of a gold of this type, in order."""
    if kind == "list":
        return members_of(text, COMMA)
    if kind == "tuple":
        return coordinates(text)
    if kind == "interval":
        return split_top(text, UNION)
    if kind == "matrix":
        return coordinates(text)
    return []


def members_of(text: str, comma: re.Pattern[str]) -> list[str]:
    r"""The members of a list or set, with ``\pm`` expanded to both signs."""
    if text.startswith("\\{") and text.endswith("\\}"):
        text = text[2:-2]
    parts = [part for part in split_top(text.strip(), comma) if part]
    members: list[str] = []
    for part in parts:
        if len(_PLUS_MINUS.findall(part)) == 1:
            members += [_PLUS_MINUS.sub("+", part), _PLUS_MINUS.sub("-", part)]
        else:
            members.append(part)
    return members


def coordinates(text: str) -> list[str]:
    """The entries of a tuple, or the shape of a matrix and its entries row by row."""
    matrix = MATRIX.match(text)
    if not matrix:
        return split_top(text[1:-1], COMMA) if is_bracketed(text) else [text]
    rows = [split_top(row, _CELL) for row in split_top(matrix[1].strip(), _ROW) if row.strip()]
    return [f"{len(rows)}x{len(rows[0]) if rows else 0}", *(cell for row in rows for cell in row)]


def without_left_side(text: str) -> str:
    """The answer without a name before it: ``x =``, ``f(x) =``, ``M_{max} =``."""
    return _LEFT_SIDE.sub("", text)


@lru_cache(maxsize=65_536)
def number_in(text: str) -> Fraction | None:
    """The exact value of an answer that may carry a unit. Percent signs are units: 25% is 25, never 0.25."""
    number = exact.value(text)
    if number is not None or not any(character.isdigit() for character in text):
        return number
    bare = DEGREES.sub("", PERCENT.sub("", _CURRENCY.sub("", text)))
    scale = 1
    for word in _SCALE.findall(bare):
        scale *= _SCALES[word.lower()]
    bare = _SCALE.sub("", bare)
    if not is_balanced(bare):  # of "5 \text{ million}"
        bare = bare.removesuffix("}")
    bare = _CURRENCY.sub("", PERCENT.sub("", without_text(bare)).strip())
    number = exact.value(bare)
    if number is None:
        number = exact.value(_UNIT_WORDS.sub("", bare))
    return None if number is None else number * scale
