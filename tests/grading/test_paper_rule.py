from __future__ import annotations

import pytest

from micota.grading.paper_rule import extract, is_correct


@pytest.mark.parametrize(("prediction", "answer", "expected"), [
    (r"\dfrac{1}{2}", r"\frac12", True), ("0.5", r"\frac{1}{2}", True), ("1/2", r"\frac{1}{2}", True),
    (".5", "0.5", True),
    (r"\sqrt3", r"\sqrt{3}", True), ("x=5", "5", True), ("xyz=5", "5", False), (r"90^\circ", "90", True),
    (r"5 \text{ cm}", "5", True), (r"10\%", "10", True), (r"\left(1,2\right)", "(1,2)", True), ("1 2", "12", True),
    # Its quirks, kept on purpose.
    ("$5$", "5", False), ("5", "$5$", False), ("10,000", "10000", False), (r"10{,}000", "10000", False),
    ("1.0", "1", False),
    ("2,1", "1,2", False), (r"a \text{ b} \text{ c}", "a", False), ("a/b", "a/b", True), ("a/b", r"\frac{a}{b}", False),
])  # fmt: skip
def test_hendrycks(prediction: str, answer: str, expected: bool) -> None:
    assert is_correct(prediction, answer, "hendrycks") is expected


@pytest.mark.parametrize(("prediction", "answer", "expected"), [
    ("025", "25", True), ("27", "27.0", True), ("0", "", True), ("204.0", "204", True), ("204.50", "204.5", False),
])  # fmt: skip
def test_zeros_are_stripped_first(prediction: str, answer: str, expected: bool) -> None:
    assert is_correct(prediction, answer, "zeros") is expected


@pytest.mark.parametrize(("completion", "answer", "expected"), [
    ("so 18", "18", True), ("she makes $1,234.", "1234", True), ("18.00", "18", False),
    (r"It is $\boxed{18}$.", "18", False),
    ("Final Answer: \\boxed{18}", "18", True), ("7, no, 8", "8", True),
])  # fmt: skip
def test_gsm8k_takes_the_last_match(completion: str, answer: str, expected: bool) -> None:
    extracted = extract(completion, "gsm8k")
    assert extracted is not None and is_correct(extracted, answer, "gsm8k") is expected


@pytest.mark.parametrize(("completion", "extracted"), [
    (r"\boxed{1} \boxed{\frac{1}{2}}", r"\frac{1}{2}"), (r"$\boxed 5$ and more", "5"), (r"\fbox{3}", "3"),
    (r"\boxed{1} then \boxed{2", None), ("7", None),
])  # fmt: skip
def test_extraction(completion: str, extracted: str | None) -> None:
    assert extract(completion, "hendrycks") == extracted
