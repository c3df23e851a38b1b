r"""Equality of an answer with a gold, by the gold's type: one comparer each, registered under the type's name.

Both are trees (see ``nodes``). What this package reads but cannot value (``\int``) goes to ``equivalent``, a function
that the caller passes: in the main process it defers the comparison, in a worker process it asks Math-Verify.
"""

from __future__ import annotations

import re
from fractions import Fraction

from micota.grading.equality import equations, lists, scalars, structures
from micota.grading.equality.rules import COMPARERS, Comparison, Equivalent, check_complete
from micota.grading.gold import Gold, GoldError, bare, gold_of
from micota.grading.reading.nodes import symbols
from micota.grading.reading.parser import read
from micota.grading.reading.separators import other_readings
from micota.grading.reading.texts import compact, is_option, option_text, options, same_options, same_words
from micota.grading.reading.tidying import MAX_CHARS, tidied
from micota.grading.reading.tokens import UnreadableError
from micota.grading.values.exact import exact

# Importing these modules registers their comparers.
__all__ = ["are_plainly_equal", "compare", "equations", "is_ambiguous", "lists", "no_worker", "scalars", "structures"]
check_complete()
_WITH_COMMAS = ("list", "tuple", "interval", "matrix")
_THOUSANDS, _LEADING_ZERO = re.compile(r"\d,\d{3}(?!\d)"), re.compile(r"(?<![\d.])0\d")


def compare(gold: Gold, prediction: str, equivalent: Equivalent) -> bool | None:
    """Whether a prediction, as extracted, equals the gold or one of its alternatives; None where that cannot be
    decided."""
    verdicts = [_compare(each, prediction, equivalent) for each in (gold, *gold.others)]
    if True in verdicts:
        return True
    return None if None in verdicts else False


def _compare(gold: Gold, prediction: str, equivalent: Equivalent) -> bool | None:
    text = _without_unit(tidied(prediction), gold)
    if compact(text) == compact(gold.text):
        return True
    if len(prediction) > MAX_CHARS or not text:
        return None
    if gold.kind == "text":
        return same_text(gold, text.upper() if re.fullmatch("[a-z]", text) and is_option(gold.text) else text)
    return _same_as_number(gold, text) or _same_mathematics(gold, text, equivalent)


def _same_as_number(gold: Gold, text: str) -> bool:
    """Whether another reading of an answer is the gold, where the gold is one number (see ``separators``)."""
    value = None if gold.node is None else exact(bare(gold.node))
    if gold.node is None or (value is None and symbols(gold.node)):
        return False
    if value is None and ";" not in text and gold.kind not in ("number", "expression"):
        return False
    for other in other_readings(text, is_whole=value is not None and value.denominator == 1):
        try:
            node = read(other, extra=gold.hints.things)
        except UnreadableError:
            continue
        if COMPARERS[gold.kind](gold.node, node, Comparison(gold, other)):
            return True
    return False


def _same_mathematics(gold: Gold, text: str, equivalent: Equivalent) -> bool | None:
    try:
        node = read(text, extra=gold.hints.things)
    except UnreadableError as error:
        if is_option(text):
            return False
        if (error.is_mathematics or not gold.is_mathematics or gold.node is None) and error.word == "":
            return equivalent(gold.text, text, gold.tolerance)
        return None
    if gold.node is None:
        return equivalent(gold.text, text, gold.tolerance) if gold.is_mathematics else None
    if gold.kind == "list" and _LEADING_ZERO.search(text) and not _LEADING_ZERO.search(gold.text):
        return False  # 2,05 is no list of 2 and 5
    comparison = Comparison(gold, text)
    verdict = COMPARERS[gold.kind](gold.node, node, comparison)
    if verdict is not True and gold.kind in _WITH_COMMAS and _THOUSANDS.search(text) and not _LEADING_ZERO.search(text):
        other = read(text, thousands=False, extra=gold.hints.things)  # 100,200 as two numbers
        return COMPARERS[gold.kind](gold.node, other, comparison) or verdict
    return verdict


def are_plainly_equal(answer: str, other: str) -> bool:
    """Whether two gold answers are the same by the rules of this module alone."""
    try:
        return compare(gold_of(answer), other, no_worker) is True
    except GoldError:
        return compact(tidied(answer)) == compact(tidied(other))


def no_worker(gold: str, prediction: str, tolerance: Fraction | None) -> bool | None:
    """No comparison in a worker process."""
    return None


def _without_unit(text: str, gold: Gold) -> str:
    """The answer without the unit that its problem declares."""
    if gold.unit and text.endswith(gold.unit) and not gold.text.endswith(gold.unit):
        return text.removesuffix(gold.unit).rstrip()
    return text


def same_text(gold: Gold, text: str) -> bool:
    """Words by their letters; option letters with or without brackets, or what stands behind the letter."""
    if not is_option(gold.text):
        return same_words(gold.text, text)
    if options(text):
        return same_options(gold.text, text)
    behind = option_text(gold.text)
    return bool(behind) and are_plainly_equal(behind, text)


def is_ambiguous(gold: Gold, prediction: str) -> bool:
    """Whether an answer that is not the gold offers it among others: "5 or 7" for 5."""
    if gold.kind not in ("number", "integer", "expression", "text"):
        return False
    if gold.kind == "text":
        return (
            is_option(gold.text)
            and len(options(gold.text)) == 1
            and len(options(tidied(prediction))) > 1
            and set(options(gold.text)) < set(options(tidied(prediction)))
        )
    try:
        node = read(tidied(prediction), extra=gold.hints.things)
    except UnreadableError:
        return False
    if node.head not in ("list", "set") or len(node.args) < 2 or gold.node is None:
        return False
    comparison = Comparison(gold, tidied(prediction))
    verdicts = [lists.same_member(gold.node, part, comparison) for part in node.args]
    return True in verdicts and False in verdicts
