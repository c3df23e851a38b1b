r"""Exact values of plain arithmetic: integers, decimals, fractions, mixed numbers, small powers and factorials.

The cheap first step of every comparison. A recursive descent over a token list, with limits on length, depth and size,
so that ``9^{9^{9^9}}`` costs nothing. Other text has no value here and goes to a worker process.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache

MAX_CHARS = 400
MAX_BITS = 16_384
MAX_DEPTH = 20
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+\.\d+|\.\d+|\d+\.?)"
    r"|(?P<command>\\(?:frac|cdot|times|div)(?![a-zA-Z]))|(?P<sign>[-+*/^!(){}]))"
)
_SPLIT_NUMBER = re.compile(r"\d\s+\.?\d")
_TIMES = ("*", r"\cdot", r"\times")
_OVER = ("/", r"\div")


class _NoValueError(Exception):
    """Not plain arithmetic, or too large."""


@lru_cache(maxsize=65_536)
def value(text: str) -> Fraction | None:
    """The exact value of a tidied answer, or None where it is not plain arithmetic."""
    if len(text) > MAX_CHARS or not any(character.isdigit() for character in text) or _SPLIT_NUMBER.search(text):
        return None
    try:
        return _Reader(text).whole()
    except _NoValueError:
        return None


class _Reader:
    """A recursive descent parser: a token list and the index of the next token."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        end = 0
        while end < len(text):
            match = _TOKEN.match(text, end)
            if match is None or not match[0].strip():
                raise _NoValueError
            self.tokens.append(match[0].strip())
            end = match.end()
        self.position = 0
        self.depth = 0

    def whole(self) -> Fraction:
        result = self.sum()
        if self.position < len(self.tokens):
            raise _NoValueError
        return result

    def peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self, *accepted: str) -> str:
        """The next token if it is one of these, else the empty string."""
        token = self.peek()
        if token and token in accepted:
            self.position += 1
            return token
        return ""

    def sum(self) -> Fraction:
        result = self.product()
        while sign := self.take("+", "-"):
            result = _limited(result + self.product() * (1 if sign == "+" else -1))
        return result

    def product(self) -> Fraction:
        result = self.signed()
        while sign := self.take(*_TIMES, *_OVER):
            factor = self.signed()
            if sign in _OVER and factor == 0:
                raise _NoValueError
            result = _limited(result * factor if sign in _TIMES else result / factor)
        return result

    def signed(self) -> Fraction:
        sign = 1
        while token := self.take("+", "-"):
            sign = -sign if token == "-" else sign
        return sign * self.power()

    def power(self) -> Fraction:
        starts_with_number = self.peek()[:1].isdigit()
        base = self.atom()
        while self.take("!"):
            if base.denominator != 1 or not 0 <= base <= 500:
                raise _NoValueError
            base = Fraction(math.factorial(base.numerator))
        if self.take("^"):
            return _raised(base, self.group())
        if starts_with_number and base.denominator == 1 and self.peek() == r"\frac":  # a mixed number
            base += self.atom()
        return base

    def group(self) -> Fraction:
        """The operand of ``^`` or ``\\frac``: a group in braces, or a single digit."""
        token = self.peek()
        if token == "{":
            return self.atom()
        if len(token) == 1 and token.isdigit():
            self.position += 1
            return Fraction(int(token))
        raise _NoValueError

    def atom(self) -> Fraction:
        token = self.peek()
        self.position += 1
        if token and (token[0].isdigit() or token[0] == "."):
            whole, _, decimals = token.replace(",", "").partition(".")
            return Fraction(int((whole or "0") + decimals), 10 ** len(decimals))
        if token in ("(", "{"):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise _NoValueError
            result = self.sum()
            self.depth -= 1
            if not self.take(")" if token == "(" else "}"):
                raise _NoValueError
            return result
        if token == r"\frac":
            top, bottom = self.group(), self.group()
            if bottom == 0:
                raise _NoValueError
            return top / bottom
        raise _NoValueError


def _raised(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or (base == 0 and exponent <= 0):
        raise _NoValueError
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) > MAX_BITS or bits * abs(exponent) > MAX_BITS:
        raise _NoValueError
    return base**exponent.numerator


def _limited(result: Fraction) -> Fraction:
    if max(result.numerator.bit_length(), result.denominator.bit_length()) > MAX_BITS:
        raise _NoValueError
    return result
