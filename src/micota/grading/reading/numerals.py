"""Numbers as they are written: separators, repeating decimals, powers of ten, other bases, words."""

from __future__ import annotations

import re
from fractions import Fraction

from micota.grading.reading.nodes import Node
from micota.grading.reading.tokens import UnreadableError
from micota.grading.reading.words import BASES

_DECIMAL = re.compile(r"([\d, ]*)(?:\.(\d*))?(\s*(?:\\|\(|\.\.\.|…).*?)?([eE][-+]?\d+)?$")


def decimal(text: str) -> Fraction:
    r"""The value of a number as written: thousands separators, repeating decimals, powers of ten.

    Raises:
        UnreadableError: its power of ten is too large.
    """
    match = _DECIMAL.match(text)
    assert match is not None, text
    whole, digits = match[1].replace(",", "").replace(" ", ""), match[2] or ""
    value = Fraction(int((whole or "0") + digits), 10 ** len(digits))
    repeat = re.sub(r"\D", "", match[3]) if match[3] else ""
    if match[3] and not repeat:  # 0.333...
        period = re.search(r"(\d{1,6}?)\1+$", digits)
        if period is None or len(period[0]) < 3:
            raise UnreadableError("dots after a number")
        repeat, digits = period[1], digits
    if repeat:
        value += Fraction(int(repeat), (10 ** len(repeat) - 1) * 10 ** len(digits))
    if match[4]:
        exponent = int(match[4][1:])
        if abs(exponent) > 400:
            raise UnreadableError("a power of ten that is too large")
        value *= Fraction(10) ** exponent
    return value


def in_base(digits: str, base: str) -> Node:
    value = int(base) if base.isdigit() else BASES.get(base, 0)
    if (
        not 2 <= value <= 36
        or not re.fullmatch(r"\d+(?:\.\d+)?", digits)
        or any(int(digit) >= value for digit in digits if digit != ".")
    ):
        raise UnreadableError("a base")
    return Node("base", name=digits.lstrip("0") or "0", value=Fraction(value))
