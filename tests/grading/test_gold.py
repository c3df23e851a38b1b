from __future__ import annotations

from fractions import Fraction

import pytest

from micota.grading.gold import GoldError, bare, gold_of, is_balanced, is_settled, joined
from micota.grading.reading.parser import read, tidied
from micota.grading.values.numeric import exact


@pytest.mark.parametrize(("answer", "kind"), [
    ("42", "number"), (r"\frac{270}7\text{ degrees}", "number"), (r"\$32,\!348", "number"), (r"90^\circ", "number"),
    ("1,-2", "list"), (r"1 \pm \sqrt{19}", "list"), (r"\{1\pm\sqrt{5},-2\}", "list"), ("(1,1), (3,2)", "list"),
    ("(6,31,-1)", "tuple"), ("(3,4]", "interval"), (r"(-\infty, 2) \cup (3, \infty)", "interval"),
    (r"\text{Evelyn}", "text"), (r"\text{(C)}", "text"), (r"4:30 \text{ p.m.}", "text"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "matrix"), ("x^2+1", "expression"), ("2k", "expression"),
])  # fmt: skip
def test_types_by_form(answer: str, kind: str) -> None:
    assert gold_of(answer).kind == kind


@pytest.mark.parametrize(("answer", "kind", "message"), [
    ("1.5", "integer", "expected an integer"), ("x", "integer", "expected an integer"),
    ("the east", "number", "found words"), (r"\frac{1}{2", "expression", "braces do not match"),
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
    assert exact(bare(read(tidied(text)))) == expected


def test_plain_golds_need_no_worker() -> None:
    assert is_settled(gold_of("(1, 2]")) and is_settled(gold_of(r"\text{east}")) and is_settled(gold_of("1,2"))
    assert is_settled(gold_of(r"\sqrt{2}")) and not is_settled(gold_of(r"\\int_0^1 x"))


def test_several_golds_and_relative_tolerance() -> None:
    gold = gold_of(joined(["5", "7"]))
    assert gold.text == "5" and [other.text for other in gold.others] == ["7"]
    relative = gold_of("200", "number", "1%")
    assert relative.tolerance == Fraction(1, 100) and relative.is_relative
    for bad in ("nan", "inf", "-1", "1e9999"):
        with pytest.raises(GoldError, match="accepted: a number of at least 0"):
            gold_of("5", "number", bad)


def test_braces() -> None:
    assert is_balanced(r"\{ {a}{b}") and not is_balanced("{a") and not is_balanced("}{")
