from __future__ import annotations

from fractions import Fraction

import pytest

from micota.grading.exact import value


@pytest.mark.parametrize(("text", "expected"), [
    ("7", 7), ("-7", -7), ("+7", 7), ("--7", 7), ("007", 7), ("0.1", Fraction(1, 10)), (".5", Fraction(1, 2)),
    ("5.", 5),
    ("1,234,567.5", Fraction(2469135, 2)), ("3/4", Fraction(3, 4)), (r"\frac{-3}{6}", Fraction(-1, 2)),
    (r"1\frac{4}{5}", Fraction(9, 5)), (r"137 \frac{1}{2}", Fraction(275, 2)), ("2^{10}", 1024), ("2^-1", None),
    ("2^{-1}", Fraction(1, 2)), ("5!", 120), (r"3 \cdot 4 - 2", 10), ("(1+2)*3", 9), (r"\frac{2 \cdot 3^{2}}{9}", 2),
    (r"10^{3}", 1000), ("2^10", None),
])  # fmt: skip
def test_plain_arithmetic(text: str, expected: Fraction | int | None) -> None:
    assert value(text) == expected


@pytest.mark.parametrize("text", [
    "", "x", "1/0", r"\frac{1}{0}", "0^0", "1 2", "12,34", "(1", "1)", "1+", r"\sqrt{2}", "9^{9^{9^9}}", "9" * 5000,
    "(" * 300 + "1" + ")" * 300, "999!!!", "10^{100000}", "2(3)", "__import__('os')", "1e5",
])  # fmt: skip
def test_everything_else_has_no_value_and_costs_nothing(text: str) -> None:
    assert value(text) is None
