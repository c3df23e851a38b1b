from __future__ import annotations

import re

import pytest

from micota.grading.latex import boxes, closing, compact, is_balanced, is_words, split_top, tidy, words


@pytest.mark.parametrize(("answer", "expected"), [
    (r"$\dfrac12$", r"\frac{1}{2}"), (r"\tfrac{a}{b}.", r"\frac{a}{b}"), (r"\left( 1 ,\; 2 \right)", "( 1 , 2 )"),
    (r"10{,}000", "10,000"), (r"11,\! 111,\! 100", "11,111,100"), (r"\mbox{ cm}", r"\text{ cm}"),
    (r"\sqrt2", r"\sqrt{2}"),
    ("90°", r"90^\circ"), (r"90^{\circ}", r"90^\circ"), ("3×4−1", r"3\times 4-1"), ("x²", "x^{2}"),
    ("½", r"\frac{1}{2}"),
    ("**42**", "42"), ('"42"', "42"), ("{{42}}", "42"), (r"\boxed{42}", "42"), (r"\text{answer: 12}", "12"),
    ("√(5)", r"\sqrt{5}"), (r"\$18.90", "18.90"), (r"25\%", "25%"), ("４２", "42"), ("4\x002", "42"),
    (r"\frac\pi 2", r"\frac{\pi}{2}"), (r"\frac{1}x", r"\frac{1}{x}"),
    (r"\pi\,r", r"\pi r"),
])  # fmt: skip
def test_tidy(answer: str, expected: str) -> None:
    assert tidy(answer) == expected


def test_compact_keeps_different_answers_apart() -> None:
    assert compact(r"x^{2} + \text{cm}") == "x^2+cm"
    assert compact(r"x^{10}") != compact("x^10")


def test_words() -> None:
    assert words(r"\text{The East}") == "east" == words("east.")
    assert is_words("one half") and is_words(r"\text{east}")
    assert not is_words("2 apples") and not is_words("x") and not is_words(r"\pi")


def test_brackets() -> None:
    assert closing("(a[b]c)d", 0) == 6 and closing("(a", 0) == -1
    assert is_balanced(r"\{ {a}{b}") and not is_balanced("{a") and not is_balanced("}{")
    assert split_top("(1,2),[3,4), 5", re.compile(",")) == ["(1,2)", "[3,4)", "5"]


def test_boxes_closes_in_order_and_skips_what_is_empty_or_open() -> None:
    text = r"\boxed{1} \boxed{ } \boxed{\fbox{2}} \boxed{\{3\}} \boxed{open"
    assert [text[start : end - 1] for _, start, end in boxes(text)] == ["1", "2", r"\fbox{2}", r"\{3\}"]
