from __future__ import annotations

import pytest

from micota.grading.reading.nodes import Node
from micota.grading.reading.parser import read, tidied
from micota.grading.reading.tokens import UnreadableError


@pytest.mark.parametrize(("answer", "expected"), [
    (r"$7$.", "7"), (r"10{,}000", "10,000"), (r"11,\! 111,\! 100", "11,111,100"), ("**42**", "42"), ('"42"', "42"),
    ("{{42}}", "42"), (r"\boxed{42}", "42"), ("Answer: 12", "12"), ("４２", "42"), ("4\x002", "42"), ("$18", r"\$18"),
    (r"\( x \)", "x"), ("{1, 2}", "{1, 2}"), ("3×4−1", r"3\times 4-1"), ("x²", "x^{2}"), ("√(5)", r"\sqrt{5}"),
    ("x\u200b", "x"), ("\frac{1}{2}", r"\frac{1}{2}"), ("⅔", r"\frac{2}{3}"),
])  # fmt: skip
def test_what_only_surrounds_an_answer_goes(answer: str, expected: str) -> None:
    assert tidied(answer) == expected


def shown(node: Node) -> str:
    if node.head == "number":
        return str(node.value)
    return (
        node.name
        if node.head in ("symbol", "constant", "named")
        else f"{node.head}{node.name and ':' + node.name}({' '.join(map(shown, node.args))})"
    )


@pytest.mark.parametrize(("text", "expected"), [
    ("2abc", "product(product(product(2 a) b) c)"), ("5 km", "quantity:km(5)"), ("5 m", "quantity:m(5)"),
    ("5m", "product(5 m)"), (r"\sin^2 t", "power(function:sin(t) 2)"), ("(0, 1]", "tuple:(](0 1)"),
    (r"\{1,2\}", "set(1 2)"), ("{1, 2}", "set(1 2)"), ("1, 2 and 3", "list:and(1 2 3)"),
    ("x = 1 or x = 2", "list:or(relation:=(x 1) relation:=(x 2))"), ("f(x)", "call:f(x)"),
    ("p(1-p)", "product(p sum(1 negative(p)))"), ("1,023", "1023"), ("3:5", "ratio(3 5)"),
    (r"5 \text{ ft } 6 \text{ in}", "quantity:in(sum(sum(0 product(5 12)) product(6 1)))"),
    (r"10\ \frac{\text{m}}{\text{s}}", "quantity:m*s^-1(10)"), ("6 km/h", "quantity:h^-1*km(6)"),
    ("60 mph", "quantity:h^-1*mi(60)"), ("864 square inches", "quantity:in^2(864)"), (r"\frac12", "quotient(1 2)"),
    (r"k\pi,\ k\in\mathbb{Z}", "product(k pi)"), (r"2x+3, x \ne 1", "sum(product(2 x) 3)"),
    (r"\log_28", "function:log(8 2)"), (r"\text{all real numbers except } 4", "minus(R set(4))"),
    ("14 right triangles", "quantity:triangle(14)"),
])  # fmt: skip
def test_trees(text: str, expected: str) -> None:
    assert shown(read(tidied(text))) == expected


@pytest.mark.parametrize(("text", "word"), [
    (r"\text{not } 5", "not"), ("5 thousandths", "thousandths"), ("2 thirds", "thirds"),
    (r"\text{more than } 5", "more"), ("5 or more", "more"), ("5 minus x", "minus"), ("5 times x", "times"),
    ("(0, 1", ""), (r"\frac{1}", ""), ("1 2", ""), ("{" * 500, ""), ("1,,,+", ""), ("(1,2}", ""),
])  # fmt: skip
def test_what_is_no_mathematics_is_unreadable(text: str, word: str) -> None:
    with pytest.raises(UnreadableError) as error:
        read(tidied(text))
    assert error.value.word == word


def test_things_of_the_problem_are_units() -> None:
    assert read("16 daps", extra=frozenset({"daps", "dap"})).name == "dap"
    with pytest.raises(UnreadableError, match="unexpected 'wugs'"):
        read("16 wugs")
