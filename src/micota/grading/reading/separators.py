r"""Numbers as other countries write them.

A dot may part thousands and a comma may begin the decimals. Forms that have one reading are rewritten for every answer;
forms with two (``1,5``, ``12,34,567``) only for a gold that is a number, by ``other_readings``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# 1'234'567, 1.234.567, 1_234_567: one reading each. A single group after a dot is a decimal, after "_" a base.
_APOSTROPHES = re.compile(r"(?<![\w.,'])\d{1,3}(?:'\d{3})+(?![\d'])")
_DOTS = re.compile(r"(?<![\w.,])\d{1,3}(?:\.\d{3}){2,}(?!\.?\d)")
_DOTS_AND_COMMA = re.compile(r"(?<![\w.,])(\d{1,3}(?:\.\d{3}){2,}),(\d+)(?![\d.,])")
_UNDERSCORES = re.compile(r"(?<![\w.,])\d{1,3}(?:_\d{3}){2,}(?!\w)")
_EUROPEAN = re.compile(r"(?<![\w.,])((?:\d{1,3}(?:[. ]\d{3})+|\d+)),(\d+)(?![\d.]|,\d)")
_INDIAN = re.compile(r"(?<![\w.,])\d{1,2}(?:,\d{2})+,\d{3}(?![\d]|,\d)")
_IN_BRACKETS = re.compile(r"[(\[][^()\[\];]*\d,\d[^()\[\];]*[)\]]")
_ATTACHED = re.compile(
    r"^(.*\d)\s*(?:\\[,;:! ])*(m\s*\^\s*\{?[23]\}?|[mg]\s*/\s*(?:[hsL]|\\?min)(?:\s*\^\s*\{?2\}?)?|\\Omega)\.?$"
)


_SPELLINGS = (
    (re.compile(r"^(\d+)\s*(?:\\text\s*\{)?\s*(?:out of|in)\s*\}?\s*(\d+)$"), r"\1/\2"),
    (re.compile(r"^C_\{?(\d+)\}?\^\{?(\d+)\}?$"), r"\\binom{\1}{\2}"),
    (re.compile(r"^(\d+)\s?h\s?(\d+)\s?m(?:in)?$"), r"\1 hours \2 minutes"),
    (re.compile(r"^C\((\d+),\s?(\d+)\)$"), r"\\binom{\1}{\2}"),
    (re.compile(r"^(?:\{\}\s?)?[_^]\{?(\d+)\}?\s?C\s?_\{?(\d+)\}?$"), r"\\binom{\1}{\2}"),
    (re.compile(r"^(\d+)\s*(?:\\text\s*\{\s*and\s*\}|and)\s*(\\[dt]?frac|\d+/\d+)"), r"\1 \2"),
)


def joined_groups(text: str) -> str:
    """The text with the thousands of numbers not parted where they are parted in a way that has one reading."""
    text = _APOSTROPHES.sub(lambda match: match[0].replace("'", ""), text)
    text = _DOTS_AND_COMMA.sub(lambda match: match[1].replace(".", "") + "." + match[2], text)
    text = _DOTS.sub(lambda match: match[0].replace(".", ""), text)
    return _UNDERSCORES.sub(lambda match: match[0].replace("_", ""), text)


def other_readings(text: str, *, is_whole: bool) -> Iterator[str]:
    """Other readings of an answer to a gold that is a number: a decimal comma, Indian groups, letters as a unit.

    ``is_whole`` tells whether the gold is: ``3,4`` alone is then a list and no decimal number.
    """
    if _INDIAN.search(text):
        yield _INDIAN.sub(lambda match: match[0].replace(",", ""), text)
    number = decimal_commas(text)
    if number is not None and not (is_whole and re.fullmatch(r"-?[\d,]+", text)):
        yield number
    yield from _as_english(text)
    unit = _ATTACHED.match(text)
    if unit:
        name = r"\text{ohm}" if unit[2] == r"\Omega" else re.sub("[a-zA-Z]+", lambda m: rf"\text{{ {m[0]}}}", unit[2])
        yield f"{unit[1]} {name}"


def _as_english(text: str) -> Iterator[str]:
    """Hours and minutes, combinations and mixed numbers as they are written beside a number."""
    for pattern, spelling in _SPELLINGS:
        other, count = pattern.subn(spelling, text)
        if count:
            yield other


def decimal_commas(text: str) -> str | None:
    """The text with decimal points for decimal commas; None where it has none, or where commas part entries."""
    if "\\{" in text or _IN_BRACKETS.search(text):
        return None
    text = re.sub(r"(?<=\d)\{,\}(?=\d)|(?<=\d),(?=\\(?:overline|bar))", ".", bare := text)
    number = _EUROPEAN.sub(
        lambda match: match[0] if _is_thousands(match) else re.sub("[. ]", "", match[1]) + "." + match[2], text
    )
    return number if number != bare else None


def _is_thousands(match: re.Match[str]) -> bool:
    """``1,234`` is a whole number; ``0,125`` and ``1.234,567`` are not."""
    return len(match[2]) == 3 and match[1].isdigit() and len(match[1]) <= 3 and not match[1].startswith("0")
