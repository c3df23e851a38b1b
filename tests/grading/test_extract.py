from __future__ import annotations

import pytest

from micota.grading.extract import boxed, extract, last_number


@pytest.mark.parametrize(("completion", "prediction"), [
    (r"so \boxed{7}", "7"), (r"first \boxed{1}, then \boxed{2}", "2"),
    (r"\boxed{\frac{1}{2}} and \boxed{open", r"\frac{1}{2}"),
    (r"\boxed {x}", "x"), (r"\boxed{}", None), ("no answer: 7", None), ("", None), (r"\fbox{3}", "3"),
    (r"put it in \boxed{}. \boxed{4}. Format: \boxed{}", "4"),
])  # fmt: skip
def test_boxed(completion: str, prediction: str | None) -> None:
    assert boxed(completion) == prediction


@pytest.mark.parametrize(("completion", "prediction"), [
    (r"12 apples \boxed{7}, 9 left", "7"),
    ("...\nA: 1520", "1520"),
    ("#### 4\nThe answer is: 4", "4"),
    ("so 5.\n#### 1,450", "1,450"),
    ("**Final Answer:** $42$", "42"),
    ("**Final Answer**\n\n$\\frac{1}{2}$", r"\frac{1}{2}"),
    ("The answer is that she has 5 apples.", "5"),
    ("It takes 2 and 2, so 24-12", "12"),
    ("he pays $1,234.50 in total", "1,234.50"),
    ("it is -3 degrees", "-3"),
    ('{"reasoning": "9 \\boxed{8}", "answer": "47"}', "47"),
    ('```json\n{"reasoning": "", "answer": 47\n}\n```\nNow another: \\boxed{3}', "47"),
    ('{"reasoning": "x", "answer": "\\frac{1}{2}"}', r"\frac{1}{2}"),
    ('{"reasoning": "x", "answer": "\\\\frac{1}{2}"}', r"\frac{1}{2}"),
    ("```output\n36.0\n```\n36 people like horse #12.", "36.0"),
    ("no digits at all", None),
])  # fmt: skip
def test_extract_a_number(completion: str, prediction: str | None) -> None:
    assert extract(completion, is_number=True) == prediction


def test_the_last_number_is_taken_for_numbers_alone() -> None:
    assert extract("so we have 7", is_number=False) is None
    assert last_number("") is None


def test_neighbouring_boxes_are_one_list() -> None:
    text = r"The roots are $\boxed{1}$ and $\boxed{-2}$."
    assert extract(text, is_number=False, is_list=True) == "1, -2"
    assert extract(text, is_number=False) == "-2"
    assert extract(r"not \boxed{1}. Hence \boxed{2}", is_number=False, is_list=True) == "2"
