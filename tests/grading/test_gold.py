from __future__ import annotations

from fractions import Fraction

import pytest

from micota.grading.gold import GoldError, gold_of, inferred, is_settled, number_in
from micota.grading.latex import tidy


@pytest.mark.parametrize(("answer", "kind"), [
    ("42", "number"), (r"\frac{270}7\text{ degrees}", "number"), (r"\$32,\!348", "number"), (r"90^\circ", "number"),
    ("1,-2", "list"), (r"1 \pm \sqrt{19}", "list"), (r"\{1\pm\sqrt{5},-2\}", "list"), ("(1,1), (3,2)", "list"),
    ("(6,31,-1)", "tuple"), ("(3,4]", "interval"), (r"(-\infty, 2) \cup (3, \infty)", "interval"),
    (r"\text{Evelyn}", "text"), (r"\text{(C)}", "text"), (r"4:30 \text{ p.m.}", "text"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "matrix"), ("x^2+1", "expression"), ("2k", "expression"),
])  # fmt: skip
def test_types_by_form(answer: str, kind: str) -> None:
    assert inferred(tidy(answer)) == kind


@pytest.mark.parametrize(("answer", "kind", "message"), [
    ("1.5", "integer", "expected an integer"), ("x", "integer", "expected an integer"),
    ("twelve apples", "number", "found words"), (r"\frac{1}{2", "expression", "braces do not match"),
    ("5", "tuple", r"expected \(a, b"), ("5", "interval", "expected an interval"),
    ("5", "colour", "accepted types are auto"),
    ("$ $", "number", "is empty"),
])  # fmt: skip
def test_a_gold_of_another_type_is_an_error(answer: str, kind: str, message: str) -> None:
    with pytest.raises(GoldError, match=message):
        gold_of(answer, kind)


def test_tolerance() -> None:
    assert gold_of("5", "number", "1e-1").tolerance == Fraction(1, 10)
    with pytest.raises(GoldError, match="tolerance 'big'; accepted: a number of at least 0"):
        gold_of("5", "number", "big")


def test_vague_types_yield_to_the_form() -> None:
    assert gold_of("(1,2)", "number").kind == "tuple"
    assert gold_of("1,234", "number").kind == "number"


@pytest.mark.parametrize(("text", "expected"), [
    ("5.4 \\text{ cents}", Fraction(27, 5)), (r"864 \text{ inches}^2", 864), ("18 dollars", 18), ("€18", 18),
    ("75%", 75),
    ("5 million", 5_000_000), (r"5 \text{ million}", 5_000_000), ("5 m", 5), ("12 square units", 12), ("5x", None),
    ("x", None),
])  # fmt: skip
def test_numbers_with_units(text: str, expected: Fraction | int | None) -> None:
    assert number_in(text) == expected


def test_plain_golds_need_no_worker() -> None:
    assert is_settled(gold_of("(1, 2]")) and is_settled(gold_of(r"\text{east}")) and is_settled(gold_of("1,2"))
    assert not is_settled(gold_of(r"\sqrt{2}"))
