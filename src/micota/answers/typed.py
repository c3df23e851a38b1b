r"""Equality of a prediction with a gold answer by the gold's type.

Cheap rules settle most answers: the same text, the same exact number, the same parts in the same brackets. What they leave
open (``\sqrt{8}`` against ``2\sqrt{2}``) goes to ``equivalent``, a function given by the caller: in the main process one
that defers the question, in a worker process the symbolic comparison.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from micota.answers import exact
from micota.answers.latex import (
    MAX_CHARS,
    NEW_ROW,
    closing,
    compact,
    is_balanced,
    is_words,
    split_top,
    tidy,
    without_text,
    words,
)
from micota.config import ANSWER_TYPES

Equivalent = Callable[[str, str, Fraction | None], bool | None]

_COMMA = re.compile(r",|;|\\text\{\s*(?:and|or)\s*\}|\band\b|\bor\b|\\(?:lor|vee)(?![a-zA-Z])")
_LIST_COMMA = re.compile(r",(?=\s)|;|\\text\{\s*(?:and|or)\s*\}|\band\b|\bor\b|\\(?:lor|vee)(?![a-zA-Z])")
_UNION = re.compile(r"\\cup(?![a-zA-Z])|\bU\b|\\text\{\s*(?:or|U)\s*\}|\bor\b")
_ROW = re.compile(NEW_ROW)
_CELL = re.compile(r"&")
_MEMBERSHIP = re.compile(r"^[a-zA-Z](?:_\{?\w+\}?)?\s*\\in(?![a-zA-Z])\s*")
_LEFT_SIDE = re.compile(
    r"^(?:\\?[a-zA-Z]+(?:_\{[^{}]*\}|_\w)?'*(?:\([^()=]*\))?|\\(?:angle|overline|text|triangle)[^=]*|[A-Z ]+|\([^()=]*\))\s*=\s*(?!.*=)"
)
_PLUS_MINUS = re.compile(r"\\pm(?![a-zA-Z])")
_MATRIX = re.compile(r"^\\begin\{pmatrix\}(.*)\\end\{pmatrix\}$", re.DOTALL)
_BASE = re.compile(r"^([0-9A-Z]+)_\{?(?:\\text\{)?(\d+|\\text\{\w+\})\}?\}?$")
_OPTION = re.compile(r"^\(?([A-Z])\)?$")
_CURRENCY = re.compile(r"^[£€¥]\s*|^USD\s*|\s*(?:\\text\{\s*)?(?:USD|dollars?)(?:\s*\})?$")
_PERCENT = re.compile(r"\s*(?:%|\bpercent\b|\\text\{\s*(?:percent|%)\s*\})\s*$")
_DEGREES = re.compile(r"\s*(?:\^\\circ\s*[CFK]?|\bdegrees?\b|\\text\{\s*degrees?\s*\})\s*$")
_SCALE = re.compile(r"\s*(?:\\text\{\s*)?\b(thousand|million|billion|trillion)\b", re.IGNORECASE)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_UNIT_WORDS = re.compile(r"\s*/?\s*[a-zA-Z]{2,}[a-zA-Z\s./'-]*(?:\^\{?\d\}?)?\s*$|\s+[mgshLlNJWVKAC](?:\^\{?\d\}?)?\s*$")
_STRUCTURED = ("list", "tuple", "interval", "matrix")
_RELATION = re.compile(r"[<>]|\\[lg]e(?![a-zA-Z])|\\ne(?![a-zA-Z])")
_CLOCK = re.compile(r"^(\d{1,2}:\d\d)(?:\s*([ap])\.?\s*m)?")
_BRACKETS = {"(": ")", "[": "]"}


class GoldError(ValueError):
    """A gold answer that is not of its declared type; the text says what it is and what was expected."""


@dataclass(frozen=True)
class Gold:
    """A gold answer, tidied, with the type to compare it by. ``parts`` are those of a list, tuple, interval or matrix."""

    text: str
    kind: str
    parts: tuple[str, ...] = ()
    tolerance: Fraction | None = None

    @property
    def is_number(self) -> bool:
        return self.kind in ("integer", "number")


@lru_cache(maxsize=65_536)
def gold_of(answer: str, answer_type: str = "auto", tolerance: str | None = None) -> Gold:
    """The gold behind an answer of a declared type; ``auto`` takes the type from the answer's own form.

    Raises:
        GoldError: the answer is not of that type.
    """
    text = _MEMBERSHIP.sub("", tidy(answer))
    form = inferred(text)
    # Collections call a pair a number, and a list of functions an expression: brackets and commas say more than that.
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
    return Gold(text=text, kind=kind, parts=tuple(_parts(text, kind)), tolerance=margin)


def is_settled(gold: Gold) -> bool:
    """Whether a gold is plain: words, or numbers that have an exact value."""
    if gold.kind == "text":
        return True
    if gold.kind == "interval":
        return all(_number(end) is not None or "infty" in end for part in gold.parts for end in _coordinates(part))
    return all(_number(part) is not None or re.fullmatch(r"\d+x\d+", part) for part in gold.parts or (gold.text,))


def _plain_power(tolerance: str) -> str:
    r"""``1e-1`` as ``1*10^{-1}``."""
    return re.sub(r"[eE]([-+]?\d+)$", r"*10^{\1}", tolerance.strip())


def _complaint(text: str, kind: str) -> str | None:
    """What is wrong with a gold of this type, as far as its form shows."""
    if kind not in ANSWER_TYPES:
        return f"accepted types are {', '.join(ANSWER_TYPES)}"
    if not is_balanced(text):
        return "its braces do not match"
    number = _number(text)
    if kind == "integer" and (number is None or number.denominator != 1):
        return "expected an integer"
    if kind in ("number", "expression", "interval") and is_words(text):
        return "expected mathematics, found words"
    if kind == "tuple" and not _bracketed(text) and not _MATRIX.match(text):
        return "expected (a, b, ...)"
    if kind == "interval" and not any(mark in text for mark in ("(", "[", r"\le", r"\ge", "<", ">", r"\{")):
        return "expected an interval such as (0, 1]"
    return None


def inferred(text: str) -> str:
    """The type that a tidied answer has by its form."""
    if _number(text) is not None:
        return "number"
    if text.startswith("\\{") and text.endswith("\\}"):
        return "list"
    if _MATRIX.match(text):
        return "matrix"
    if _OPTION.match(compact(text)) or is_words(text) or _CLOCK.match(text) or re.match(r"^\\text\{[^{}]*[a-zA-Z]{2}[^{}]*\}$", text):
        return "text"
    if len(split_top(text, _UNION)) > 1 and any(bracket in text for bracket in "([{"):
        return "interval"
    if len(split_top(text, _COMMA)) > 1 or _PLUS_MINUS.search(text):
        return "list"
    if _bracketed(text):
        ends = text[0] + text[-1]
        return "tuple" if ends == "()" else "interval"
    return "expression"


def _bracketed(text: str) -> bool:
    """Whether a text is one pair of round or square (or mixed) brackets around at least two parts."""
    if not text or text[0] not in "([" or closing(text, 0) != len(text) - 1 or text[-1] not in ")]":
        return False
    return len(split_top(text[1:-1], _COMMA)) > 1


def _parts(text: str, kind: str) -> list[str]:
    """What a gold of this type is made of, in order."""
    if kind == "list":
        return _members(text, _COMMA)
    if kind == "tuple":
        return _coordinates(text)
    if kind == "interval":
        return split_top(text, _UNION)
    if kind == "matrix":
        return _coordinates(text)
    return []


def _members(text: str, comma: re.Pattern[str]) -> list[str]:
    r"""The members of a list or set, with ``\pm`` written out."""
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


def _coordinates(text: str) -> list[str]:
    """The entries of a tuple, or of a matrix row by row with the shape put first."""
    matrix = _MATRIX.match(text)
    if not matrix:
        return split_top(text[1:-1], _COMMA) if _bracketed(text) else [text]
    rows = [split_top(row, _CELL) for row in split_top(matrix[1].strip(), _ROW) if row.strip()]
    return [f"{len(rows)}x{len(rows[0]) if rows else 0}", *(cell for row in rows for cell in row)]


def compare(gold: Gold, prediction: str, equivalent: Equivalent) -> bool | None:
    """Whether a prediction, as extracted, equals the gold; None where that cannot be told."""
    text = _MEMBERSHIP.sub("", tidy(prediction))
    if compact(text) == compact(gold.text):
        return True
    if len(prediction) > MAX_CHARS:
        return None
    if gold.kind == "text":
        return _same_words(gold.text, text)
    if gold.kind == "list":
        return _same_list(gold, text, equivalent)
    if gold.kind in ("tuple", "matrix"):
        return _same_tuple(gold, text, equivalent)
    if gold.kind == "interval":
        return _same_interval(gold, text, equivalent)
    return same_atom(gold.text, text, gold.tolerance, equivalent, whole=gold.kind == "integer")


def _same_words(gold: str, text: str) -> bool:
    """Words by their letters; an option letter with or without brackets, or followed by what the option says."""
    option = _OPTION.match(compact(gold))
    if option:
        named = re.match(r"^\(?([A-Z])\)?(?:[\s.:)]|$)", words_kept(text))
        return bool(named) and named[1] == option[1]  # type: ignore[index]
    ours, theirs = words(gold), words(text)
    return ours == theirs or ours.replace(" ", "") == theirs.replace(" ", "") or _same_time(ours, theirs)


def words_kept(text: str) -> str:
    r"""A tidied answer with ``\text{...}`` replaced by what is in it, case and brackets kept."""
    return re.sub(r"\\text\{([^{}]*)\}", r"\1", text).strip()


def _same_time(ours: str, theirs: str) -> bool:
    """A time of day: 4:30 p.m. is 4:30 pm, and 4:30 where no half of the day is named."""
    left, right = _CLOCK.match(ours), _CLOCK.match(theirs)
    return bool(left and right) and left[1] == right[1] and right[2] in (left[2], None)  # type: ignore[index]


def _same_list(gold: Gold, text: str, equivalent: Equivalent) -> bool | None:
    """The same members, each as often, in any order."""
    members = _members(without_left_side(text) if "," not in text else text, _COMMA)
    if len(members) != len(gold.parts):
        members = _members(text, _LIST_COMMA)  # 1,000, 2,000
    if len(members) != len(gold.parts):
        return False
    return _matched(list(gold.parts), members, gold.tolerance, equivalent)


def _matched(
    golds: list[str], members: list[str], tolerance: Fraction | None, equivalent: Equivalent
) -> bool | None:
    """Whether members can be paired with golds. Equality is transitive but for tolerances, so taking the first is right."""
    free = list(members)
    unsure: list[str] = []
    for gold in golds:  # cheap pairs first, so that few are left for the symbolic comparison
        found = next((m for m in free if _same_member(gold, m, tolerance, _never) is True), None)
        if found is None:
            unsure.append(gold)
        else:
            free.remove(found)
    for gold in unsure:
        verdicts = {member: _same_member(gold, member, tolerance, equivalent) for member in dict.fromkeys(free)}
        found = next((member for member, verdict in verdicts.items() if verdict is True), None)
        if found is None:
            return None if any(verdict is None for verdict in verdicts.values()) else False
        free.remove(found)
    return True


def _never(gold: str, prediction: str, tolerance: Fraction | None) -> bool | None:
    """No symbolic comparison."""
    return None


def _same_member(gold: str, member: str, tolerance: Fraction | None, equivalent: Equivalent) -> bool | None:
    if _bracketed(gold) and _bracketed(member):
        return _same_tuple(Gold(gold, "tuple", tuple(_coordinates(gold)), tolerance), member, equivalent)
    return same_atom(gold, member, tolerance, equivalent)


def _same_tuple(gold: Gold, text: str, equivalent: Equivalent) -> bool | None:
    """The same entries in the same order; a column vector may be written as a tuple."""
    text = without_left_side(text)
    ours, theirs = list(gold.parts), _coordinates(text)
    if len(ours) == 2 and len(theirs) == 1 and _RELATION.search(text):  # an open interval, answered by an inequality
        return equivalent(gold.text, text, gold.tolerance)
    if bool(_MATRIX.match(gold.text)) != bool(_MATRIX.match(text)):
        ours, theirs = _column(ours), _column(theirs)
    elif not _MATRIX.match(gold.text) and gold.text[:1] in _BRACKETS and text[:1] != gold.text[:1]:
        return False  # [1, 2] is an interval, or a list
    if len(ours) != len(theirs):
        return False
    verdicts = [same_atom(mine, other, gold.tolerance, equivalent) for mine, other in zip(ours, theirs, strict=True)]
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _column(parts: list[str]) -> list[str]:
    """The entries of a column vector, or of a tuple, alone."""
    return parts[1:] if parts and re.fullmatch(r"\d+x1", parts[0]) else parts


def _same_interval(gold: Gold, text: str, equivalent: Equivalent) -> bool | None:
    """The same intervals in any order: brackets and ends alike. Inequalities are left to the symbolic comparison."""
    pieces = [piece for piece in split_top(text, _UNION) if piece]
    if not all(_bracketed(piece) or piece.startswith("\\{") for piece in (*pieces, *gold.parts)):
        return equivalent(gold.text, text, gold.tolerance)
    if len(pieces) != len(gold.parts):
        return False
    free = list(pieces)
    unknown = False
    for part in gold.parts:
        verdicts = [_same_piece(part, piece, gold.tolerance, equivalent) for piece in free]
        if True not in verdicts:
            unknown |= None in verdicts
            return None if unknown else False
        del free[verdicts.index(True)]
    return True


def _same_piece(gold: str, piece: str, tolerance: Fraction | None, equivalent: Equivalent) -> bool | None:
    if gold[0] != piece[0] or gold[-1] != piece[-1]:
        return False
    if gold.startswith("\\{"):
        return _matched(_members(gold, _COMMA), _members(piece, _COMMA), tolerance, equivalent)
    kind = Gold(gold, "tuple", tuple(_coordinates(gold)), tolerance)
    return _same_tuple(kind, piece, equivalent)


def same_atom(
    gold: str, text: str, tolerance: Fraction | None, equivalent: Equivalent, *, whole: bool = False
) -> bool | None:
    """Equality of two single numbers or expressions, both tidied; ``whole`` accepts integers alone."""
    if compact(gold) == compact(text):
        return True
    bases = _BASE.match(compact(gold)), _BASE.match(compact(text))
    if bases[0]:  # the digits may stand without their base, which the problem names
        return compact(text) == bases[0][1] or (bool(bases[1]) and bases[0].groups() == bases[1].groups())  # type: ignore[union-attr]
    ours, theirs = _number(gold), _number(text)
    if ours is None and "=" in gold and "=" not in text:
        gold = without_left_side(gold)
        ours = _number(gold)
    if theirs is None:
        text = _comparable_side(gold, text)
        theirs = _number(text)
    if compact(gold) == compact(text):
        return True
    if ours is not None and theirs is not None:
        return abs(ours - theirs) <= (tolerance or 0)
    if whole or not text or is_words(text):
        return False
    if ours is not None and bases[1]:
        return False
    if is_words(gold):
        return words(gold) == words(text)
    return equivalent(_bare(gold), _bare(text), tolerance)


def _comparable_side(gold: str, text: str) -> str:
    """A prediction such as ``x = 5`` or ``3 + 4 = 7`` without what stands before its result, if the gold has no sides."""
    if "=" not in text:
        return text
    if "=" not in gold:
        return text if _RELATION.search(text) else text.rpartition("=")[2].strip()
    return text


def without_left_side(text: str) -> str:
    """The answer without a name before it: ``x =``, ``f(x) =``, ``M_{max} =``."""
    return _LEFT_SIDE.sub("", text)


def _bare(text: str) -> str:
    """An expression without a unit."""
    return _DEGREES.sub("", _PERCENT.sub("", without_text(text) or text)).strip()


@lru_cache(maxsize=65_536)
def _number(text: str) -> Fraction | None:
    """The exact value of an answer that may carry a unit. Percent signs are units: 25% is 25, never 0.25."""
    found = exact.value(text)
    if found is not None or not any(character.isdigit() for character in text):
        return found
    bare = _DEGREES.sub("", _PERCENT.sub("", _CURRENCY.sub("", text)))
    scale = 1
    for word in _SCALE.findall(bare):
        scale *= _SCALES[word.lower()]
    bare = _SCALE.sub("", bare).removesuffix("}") if scale > 1 and "{" not in _SCALE.sub("", bare) else _SCALE.sub("", bare)
    bare = _CURRENCY.sub("", _PERCENT.sub("", without_text(bare)).strip())
    found = exact.value(bare)
    if found is None:
        found = exact.value(_UNIT_WORDS.sub("", bare))
    return None if found is None else found * scale
