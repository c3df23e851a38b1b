r"""Equality of a prediction with a gold answer by the gold's type.

Cheap rules decide most answers: the same text, the same exact number, the same parts in the same brackets. The rest
(``\sqrt{8}`` against ``2\sqrt{2}``) goes to ``equivalent``, a function that the caller passes: in the main process it
defers the comparison, in a worker process it compares symbolically.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from micota.grading.gold import (
    CLOCK,
    COMMA,
    DEGREES,
    MATRIX,
    MEMBERSHIP,
    OPTION,
    PERCENT,
    SPACED_COMMA,
    UNION,
    Gold,
    GoldError,
    coordinates,
    gold_of,
    is_bracketed,
    members_of,
    number_in,
    without_left_side,
)
from micota.grading.latex import MAX_CHARS, compact, is_words, split_top, tidy, without_text, words

Equivalent = Callable[[str, str, Fraction | None], bool | None]

_NAMED_OPTION = re.compile(r"\(([A-Z])\)|^([A-Z])(?=[.:)]|$)")
_VARIABLE = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z](?![a-zA-Z])")
_BASE = re.compile(r"^([0-9A-Z]+)_\{?(?:\\text\{)?(\d+|\\text\{\w+\})\}?\}?$")
_RELATION = re.compile(r"[<>]|\\[lg]e(?![a-zA-Z])|\\ne(?![a-zA-Z])")
_BRACKETS = {"(": ")", "[": "]"}


def compare(gold: Gold, prediction: str, equivalent: Equivalent) -> bool | None:
    """Whether a prediction, as extracted, equals the gold; None where that cannot be decided."""
    text = MEMBERSHIP.sub("", tidy(prediction))
    if gold.unit and text.endswith(gold.unit) and not gold.text.endswith(gold.unit):
        text = text.removesuffix(gold.unit).rstrip()
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


def are_plainly_equal(answer: str, other: str) -> bool:
    """Whether two gold answers are the same by the cheap rules alone."""
    try:
        return compare(gold_of(answer), other, _never) is True
    except GoldError:
        return compact(tidy(answer)) == compact(tidy(other))


def _same_words(gold: str, text: str) -> bool:
    """Words by their letters; an option letter with or without brackets, or followed by the text of the option."""
    option = OPTION.match(compact(gold))
    if option:
        named = {letter for pair in _NAMED_OPTION.findall(words_kept(text)) for letter in pair if letter}
        return named == {option[1]}  # "(A) and (B)" is not (A)
    expected, actual = words(gold), words(text)
    return expected == actual or expected.replace(" ", "") == actual.replace(" ", "") or _same_time(expected, actual)


def words_kept(text: str) -> str:
    r"""A tidied answer with ``\text{...}`` replaced by what is in it, case and brackets kept."""
    return re.sub(r"\\text\{([^{}]*)\}", r"\1", text).strip()


def _same_time(expected: str, actual: str) -> bool:
    """A time of day: 4:30 p.m. is 4:30 pm, and 4:30 where no half of the day is named."""
    left, right = CLOCK.match(expected), CLOCK.match(actual)
    return bool(left and right) and left[1] == right[1] and right[2] in (left[2], None)  # type: ignore[index]


def _same_list(gold: Gold, text: str, equivalent: Equivalent) -> bool | None:
    """The same members, each as often, in any order."""
    members = members_of(without_left_side(text) if "," not in text else text, COMMA)
    if len(members) != len(gold.parts):
        members = members_of(text, SPACED_COMMA)  # 1,000, 2,000
    if len(members) != len(gold.parts):
        return False
    return _matched(list(gold.parts), members, gold.tolerance, equivalent)


def _matched(golds: list[str], members: list[str], tolerance: Fraction | None, equivalent: Equivalent) -> bool | None:
    """Whether members can be paired with golds. Equality is transitive except for tolerances, so the first match is
    taken."""
    free = list(members)
    unsure: list[str] = []
    for gold in golds:  # cheap pairs first, so that few are left for the symbolic comparison
        match = next((m for m in free if _same_member(gold, m, tolerance, _never) is True), None)
        if match is None:
            unsure.append(gold)
        else:
            free.remove(match)
    for gold in unsure:
        verdicts = {member: _same_member(gold, member, tolerance, equivalent) for member in dict.fromkeys(free)}
        match = next((member for member, verdict in verdicts.items() if verdict is True), None)
        if match is None:
            return None if any(verdict is None for verdict in verdicts.values()) else False
        free.remove(match)
    return True


def _never(gold: str, prediction: str, tolerance: Fraction | None) -> bool | None:
    """No symbolic comparison."""
    return None


def _same_member(gold: str, member: str, tolerance: Fraction | None, equivalent: Equivalent) -> bool | None:
    if is_bracketed(gold) and is_bracketed(member):
        return _same_tuple(Gold(gold, "tuple", tuple(coordinates(gold)), tolerance), member, equivalent)
    return same_atom(gold, member, tolerance, equivalent)


def _same_tuple(gold: Gold, text: str, equivalent: Equivalent) -> bool | None:
    """The same entries in the same order; a column vector may also be a tuple."""
    text = without_left_side(text)
    expected, actual = list(gold.parts), coordinates(text)
    if len(expected) == 2 and len(actual) == 1 and _RELATION.search(text):  # an open interval against an inequality
        return equivalent(gold.text, text, gold.tolerance)
    if bool(MATRIX.match(gold.text)) != bool(MATRIX.match(text)):
        expected, actual = _column(expected), _column(actual)
    elif not MATRIX.match(gold.text) and gold.text[:1] in _BRACKETS and text[:1] != gold.text[:1]:
        return False  # [1, 2] is an interval, or a list
    if len(expected) != len(actual):
        return False
    verdicts = [
        same_atom(part, other, gold.tolerance, equivalent) for part, other in zip(expected, actual, strict=True)
    ]
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _column(parts: list[str]) -> list[str]:
    """The entries of a column vector, or of a tuple, alone."""
    return parts[1:] if parts and re.fullmatch(r"\d+x1", parts[0]) else parts


def _same_interval(gold: Gold, text: str, equivalent: Equivalent) -> bool | None:
    """The same intervals in any order: brackets and ends alike. Inequalities go to the symbolic comparison."""
    pieces = [piece for piece in split_top(text, UNION) if piece]
    if not all(is_bracketed(piece) or piece.startswith("\\{") for piece in (*pieces, *gold.parts)):
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
        return _matched(members_of(gold, COMMA), members_of(piece, COMMA), tolerance, equivalent)
    kind = Gold(gold, "tuple", tuple(coordinates(gold)), tolerance)
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
    expected, actual = number_in(gold), number_in(text)
    if expected is None and "=" in gold and "=" not in text:
        gold = without_left_side(gold)
        expected = number_in(gold)
    if actual is None and "=" in text and len(split_top(text, COMMA)) > 1:
        return False  # "x = 5 or x = 6" is two answers
    if actual is None and "=" in text and "=" not in gold:
        if _is_equation(text):
            return False
        text = text if _RELATION.search(text) else text.rpartition("=")[2].strip()  # x = 5, 3 + 4 = 7
        actual = number_in(text)
    if compact(gold) == compact(text):
        return True
    if expected is not None and actual is not None:
        return abs(expected - actual) <= (tolerance or 0)
    if whole or not text or is_words(text) or MATRIX.match(text):
        return False
    if expected is not None and bases[1]:
        return False
    if is_words(gold):
        return words(gold) == words(text)
    return equivalent(_bare(gold), _bare(text), tolerance)


def _is_equation(text: str) -> bool:
    """Whether the equation itself is the answer: ``5x - 11y - 17 = 0`` is not the answer 0."""
    left, _, right = text.rpartition("=")
    return right.strip() == "0" and without_left_side(text) == text and bool(_VARIABLE.search(left))


def _bare(text: str) -> str:
    """An expression without a unit."""
    return DEGREES.sub("", PERCENT.sub("", without_text(text) or text)).strip()
