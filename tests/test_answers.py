from __future__ import annotations

from fractions import Fraction

import pytest

from micota.answers import extract_boxed, is_correct, number


@pytest.mark.parametrize(("completion", "prediction"), [
    (r"so \boxed{7}", "7"),
    (r"first \boxed{1}, then \boxed{2}", "2"),
    (r"\boxed{\frac{1}{2}} and \boxed{open", r"\frac{1}{2}"),
    (r"\boxed {x}", "x"),
    (r"\boxed{}", None),
    ("no answer: 7", None),
    ("", None),
])  # fmt: skip
def test_extract_boxed(completion: str, prediction: str | None) -> None:
    assert extract_boxed(completion) == prediction


@pytest.mark.parametrize(("prediction", "answer", "expected"), [
    ("7", "7", True), ("07", "7", True), ("7.0", "7", True), ("7.", "7", True), ("1,000", "1000", True),
    ("1{,}000", "1,000", True), (r"\frac{1}{2}", "0.5", True), (r"\dfrac{-3}{6}", "-1/2", True), ("$x$", "x", True),
    (r"\text{yes}", "yes", True), (r"10,\!080", "10080", True), ("8", "7", False), ("70", "7", False),
    ("1/0", "0", False), ("-7", "7", False), ("1,00", "100", False), ("0.333", "1/3", False), ("x", "y", False),
])  # fmt: skip
def test_is_correct(prediction: str, answer: str, expected: bool) -> None:
    assert is_correct(prediction, answer) is expected


def test_numbers_are_exact() -> None:
    assert number("0.1") == Fraction(1, 10)
    assert number("__import__('os')") is None
