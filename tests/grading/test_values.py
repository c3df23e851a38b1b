from __future__ import annotations

from fractions import Fraction

import pytest

from micota.grading.reading.parser import read, tidied
from micota.grading.reading.tokens import UnreadableError
from micota.grading.values.numeric import exact, same_value


def value(text: str) -> Fraction | None:
    try:
        return exact(read(tidied(text)))
    except UnreadableError:
        return None


@pytest.mark.parametrize(("text", "expected"), [
    ("7", 7), ("-7", -7), ("+7", 7), ("--7", 7), ("007", 7), ("0.1", Fraction(1, 10)), (".5", Fraction(1, 2)),
    ("5.", 5), ("1,234,567.5", Fraction(2469135, 2)), ("3/4", Fraction(3, 4)), (r"\frac{-3}{6}", Fraction(-1, 2)),
    (r"1\frac{4}{5}", Fraction(9, 5)), (r"137 \frac{1}{2}", Fraction(275, 2)), ("1 4/5", Fraction(9, 5)),
    (r"2\frac{3}{2}", 3), (r"-1\frac{1}{2}", Fraction(-3, 2)), ("2^{10}", 1024), ("2^-1", Fraction(1, 2)),
    ("2^{-1}", Fraction(1, 2)), ("5!", 120), (r"3 \cdot 4 - 2", 10), ("(1+2)*3", 9), ("2(3)", 6), ("1 234", 1234),
    (r"\frac{2 \cdot 3^{2}}{9}", 2), (r"10^{3}", 1000), ("2^10", 1024), ("2**10", 1024), ("1.2e3", 1200),
    ("1e5", 100_000), (r"0.\overline{3}", Fraction(1, 3)), (r"0.1\bar{6}", Fraction(1, 6)),
    ("0.333...", Fraction(1, 3)), ("0.(3)", Fraction(1, 3)), (r"\sqrt[3]{-8}", -2), ("8^{1/3}", 2),
    ("½", Fraction(1, 2)),
    (r"\sqrt{\frac{9}{4}}", Fraction(3, 2)), (r"\binom{10}{3}", 120), (r"{10 \choose 3}", 120), ("twenty-one", 21),
    ("two hundred and five", 205), (r"5 \text{ dozen}", 60), (r"\lfloor 7/2 \rfloor", 3), ("|-3|", 3), ("12^{th}", 12),
])  # fmt: skip
def test_plain_arithmetic(text: str, expected: Fraction | int | None) -> None:
    assert value(text) == expected


@pytest.mark.parametrize("text", [
    "", "x", "1/0", r"\frac{1}{0}", "0^0", "1 2", "12,34", "(1", "1)", "1+", r"\sqrt{2}", "9^{9^{9^9}}", "9" * 5000,
    "(" * 300 + "1" + ")" * 300, "999!!!", "10^{100000}", "__import__('os')", "1e999999", "(-8)^{1/2}",
])  # fmt: skip
def test_everything_else_has_no_value_and_costs_nothing(text: str) -> None:
    assert value(text) is None


@pytest.mark.parametrize(("left", "right", "expected"), [
    (r"\sqrt{8}", r"2\sqrt{2}", True), (r"\sqrt{2}", "1.41421356", False), ("x", r"\sqrt{x^2}", False),
    (r"\frac{1}{\sqrt{n}}", r"\sqrt{1/n}", True), (r"e^{i\pi}", "-1", True), (r"\sin^2 x+\cos^2 x", "1", True),
    (r"\lceil n/2 \rceil", r"\lfloor (n+1)/2 \rfloor", True), (r"\lceil n/2 \rceil", r"\lfloor n/2 \rfloor + 1", False),
    (r"\frac{(2n)!}{n!n!}", r"\binom{2n}{n}", True), ("|3+4i|", "5", True), (r"\sin 30^\circ", "1/2", True),
    (r"\ln e^2", "2", True), (r"\log_2 8", "3", True), (r"9^{9^{9^9}}", "1", None), (r"\sqrt[3]{-8}", "-2", True),
    (r"\arctan 1", r"\pi/4", True), ("x^2-1", "(x-1)(x+1)", True), ("i^2", "-1", True), ("xy", "yx", True),
    ("x", "y", False), (r"\frac{1}{2004!}", r"\frac{1}{2005!}", False), ("e^{i\\pi}+1", "0", True),
])  # fmt: skip
def test_values_agree_to_many_digits_or_not_at_all(left: str, right: str, expected: bool | None) -> None:
    assert same_value(read(left), read(right)) is expected


@pytest.mark.parametrize(("text", "expected"), [
    (r"(i^2)^{1/3}", -1), (r"\sqrt[3]{i^2}", -1), (r"\max(i^2, -2)", -1), (r"\floor(i^2)", -1), (r"\cis(0) + 1", 2),
])  # fmt: skip
def test_a_complex_number_without_an_imaginary_part_has_an_order(text: str, expected: int) -> None:
    assert same_value(read(text), read(str(expected))) is True


@pytest.mark.parametrize("text", [r"\sin(1, 2)", r"\exp(1, 2)", r"\mod(1)", r"\arg(1, 2, 3)", r"\sgn(1, 2)"])
def test_a_function_with_other_arguments_has_no_value(text: str) -> None:
    assert same_value(read(text), read("x")) is None
