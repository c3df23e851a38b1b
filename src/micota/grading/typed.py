r"""Equality of a prediction with a gold answer by the gold's type.

Cheap rules settle most answers: the same text, the same exact number, the same parts in the same brackets. What they
leave open (``\sqrt{8}`` against ``2\sqrt{2}``) goes to ``equivalent``, a function given by the caller: in the main
process one that defers the question, in a worker process the symbolic comparison.
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
    """Whether a prediction, as extracted, equals the gold; None where that cannot be told."""
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
    """Words by their letters; an option letter with or without brackets, or followed by what the option says."""
    option = OPTION.match(compact(gold))
    if option:
        named = {letter for pair in _NAMED_OPTION.findall(words_kept(text)) for letter in pair if letter}
        return named == {option[1]}  # "(A) and (B)" is not (A)
    ours, theirs = words(gold), words(text)
    return ours == theirs or ours.replace(" ", "") == theirs.replace(" ", "") or _same_time(ours, theirs)


def words_kept(text: str) -> str:
    r"""A tidied answer with ``\text{...}`` replaced by what is in it, case and brackets kept."""
    return re.sub(r"\\text\{([^{}]*)\}", r"\1", text).strip()


def _same_time(ours: str, theirs: str) -> bool:
    """A time of day: 4:30 p.m. is 4:30 pm, and 4:30 where no half of the day is named."""
    left, right = CLOCK.match(ours), CLOCK.match(theirs)
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
    """Whether members can be paired with golds. Equality is transitive but for tolerances, so taking the first is
    right."""
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
    if is_bracketed(gold) and is_bracketed(member):
        return _same_tuple(Gold(gold, "tuple", tuple(coordinates(gold)), tolerance), member, equivalent)
    return same_atom(gold, member, tolerance, equivalent)


def _same_tuple(gold: Gold, text: str, equivalent: Equivalent) -> bool | None:
    """The same entries in the same order; a column vector may be written as a tuple."""
    text = without_left_side(text)
    ours, theirs = list(gold.parts), coordinates(text)
    if len(ours) == 2 and len(theirs) == 1 and _RELATION.search(text):  # an open interval, answered by an inequality
        return equivalent(gold.text, text, gold.tolerance)
    if bool(MATRIX.match(gold.text)) != bool(MATRIX.match(text)):
        ours, theirs = _column(ours), _column(theirs)
    elif not MATRIX.match(gold.text) and gold.text[:1] in _BRACKETS and text[:1] != gold.text[:1]:
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
    ours, theirs = number_in(gold), number_in(text)
    if ours is None and "=" in gold and "=" not in text:
        gold = without_left_side(gold)
        ours = number_in(gold)
    if theirs is None and "=" in text and len(split_top(text, COMMA)) > 1:
        return False  # "x = 5 or x = 6" is two answers
    if theirs is None and "=" in text and "=" not in gold:
        if _is_equation(text):
            return False
        text = text if _RELATION.search(text) else text.rpartition("=")[2].strip()  # x = 5, 3 + 4 = 7
        theirs = number_in(text)
    if compact(gold) == compact(text):
        return True
    if ours is not None and theirs is not None:
        return abs(ours - theirs) <= (tolerance or 0)
    if whole or not text or is_words(text) or MATRIX.match(text):
        return False
    if ours is not None and bases[1]:
        return False
    if is_words(gold):
        return words(gold) == words(text)
    return equivalent(_bare(gold), _bare(text), tolerance)


def _is_equation(text: str) -> bool:
    """Whether a text is an equation in its own right: the answer 0 is not what ``5x - 11y - 17 = 0`` says."""
    left, _, right = text.rpartition("=")
    return right.strip() == "0" and without_left_side(text) == text and bool(_VARIABLE.search(left))


def _bare(text: str) -> str:
    """An expression without a unit."""
    return DEGREES.sub("", PERCENT.sub("", without_text(text) or text)).strip()
