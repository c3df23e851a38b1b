"""Exact values of plain arithmetic: rationals, within bounds of size."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

from micota.grading.reading.nodes import Node

MAX_BITS = 32_000


class NoValueError(Exception):
    """An expression without a value: a division by zero, a number out of bounds, a head that has none."""


@lru_cache(maxsize=65_536)
def exact(node: Node) -> Fraction | None:
    """The value of plain arithmetic, or None where it is none."""
    try:
        return _exact(node)
    except (NoValueError, RecursionError):
        return None


def _exact(node: Node) -> Fraction:
    head = node.head
    if head == "number":
        assert node.value is not None
        return node.value
    if head in ("sum", "product", "quotient", "power"):
        left, right = _exact(node.args[0]), _exact(node.args[1])
        if head == "sum":
            return _limited(left + right)
        if head == "product":
            return _limited(left * right)
        if head == "quotient":
            if right == 0:
                raise NoValueError
            return _limited(left / right)
        return _raised(left, right)
    if head == "negative":
        return -_exact(node.args[0])
    if head == "function":
        return _exact_function(node)
    raise NoValueError


def _exact_function(node: Node) -> Fraction:
    name = node.name
    if name not in ("factorial", "binom", "floor", "ceil", "abs", "root", "gcd", "lcm", "max", "min", "mod"):
        raise NoValueError
    values = [_exact(part) for part in node.args]
    if name == "root":
        return _root(values[0], values[1])
    if name == "abs":
        return abs(values[0])
    if name in ("max", "min"):
        return max(values) if name == "max" else min(values)
    if name in ("floor", "ceil"):
        return Fraction(math.floor(values[0]) if name == "floor" else math.ceil(values[0]))
    whole = [int(value) for value in values if value.denominator == 1]
    if len(whole) != len(values):
        raise NoValueError
    if name == "factorial" and 0 <= whole[0] <= 3_000:
        return Fraction(math.factorial(whole[0]))
    if name == "binom" and len(whole) == 2 and 0 <= whole[1] <= whole[0] <= 2_000:
        return Fraction(math.comb(*whole))
    if name in ("gcd", "lcm"):
        return Fraction(math.gcd(*whole) if name == "gcd" else math.lcm(*whole))
    if name == "mod" and len(whole) == 2 and whole[1]:
        return Fraction(whole[0] % whole[1])
    raise NoValueError


def _root(value: Fraction, index: Fraction) -> Fraction:
    """An exact root of a rational: of a negative number only an odd one, which is real."""
    if index.denominator != 1 or not 2 <= index <= 64:
        raise NoValueError
    n = int(index)
    if value < 0:
        if n % 2 == 0:
            raise NoValueError
        return -_root(-value, index)
    tops = [_integer_root(part, n) for part in (value.numerator, value.denominator)]
    if None in tops:
        raise NoValueError
    return Fraction(*tops)  # type: ignore[arg-type]


def _integer_root(value: int, n: int) -> int | None:
    if n == 2:
        root = math.isqrt(value)
        return root if root * root == value else None
    low, high = 0, 1 << (value.bit_length() // n + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**n <= value else (low, middle - 1)
    return low if low**n == value else None


def _raised(base: Fraction, exponent: Fraction) -> Fraction:
    if base == 0 and exponent <= 0:
        raise NoValueError
    if exponent.denominator != 1:
        return (
            _raised(_root(base, Fraction(exponent.denominator)), Fraction(exponent.numerator)) if base >= 0 else _none()
        )
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) > MAX_BITS or bits * abs(exponent) > MAX_BITS:
        if abs(base) in (0, 1) and exponent.numerator < 10**9:
            return base ** (exponent.numerator % 2 or 2)
        raise NoValueError
    return Fraction(base**exponent.numerator)


def _none() -> Fraction:
    raise NoValueError


def _limited(result: Fraction) -> Fraction:
    if max(result.numerator.bit_length(), result.denominator.bit_length()) > MAX_BITS:
        raise NoValueError
    return result
