from __future__ import annotations

import pytest

from micota.grading.extraction.boxes import answers_in, final_boxes, find_boxes
from micota.grading.extraction.extract import extract
from micota.grading.extraction.marks import Wanted

NUMBER = Wanted(is_number=True)


def boxed(text: str) -> list[str]:
    return answers_in(text, final_boxes(text, find_boxes(text).boxes))


@pytest.mark.parametrize(("completion", "answers"), [
    (r"so \boxed{7}", ["7"]), (r"first \boxed{1}, then \boxed{2}", ["2"]), (r"\boxed {x}", ["x"]), (r"\boxed{}", []),
    ("no answer: 7", []), ("", []), (r"\fbox{3}", ["3"]),
    (r"put it in \boxed{}. \boxed{4}. Format: \boxed{}", ["4"]), (r"$\boxed\frac{1}{2}$", [r"\frac{1}{2}"]),
    (r"$\boxed 5$", ["5"]), (r"\boxed{\fbox{2}}", [r"\fbox{2}"]), (r"$-\boxed{256}$", ["- 256"]),
    (r"$x = \pm\boxed{5}$", [r"\pm 5"]), (r"$\boxed{5}\sqrt{2}$", [r"5 \sqrt{2}"]), (r"$2\boxed{x}$", ["x"]),
    (r"$3 \times \boxed{5} = 15$", ["5"]), (r"$(\boxed{5}, \boxed{7})$", ["( 5 ,  7 )"]),
    (r"$\boxed{5} + \boxed{7} = \boxed{12}$", ["12"]), (r"$x=\boxed{5}$, $y=\boxed{7}$", ["5", "7"]),
    (r"(a) $\boxed{5}$ (b) $\boxed{7}$", ["5", "7"]), (r"maybe \boxed{7}? no, wrong. \boxed{8", []),
    (r"\boxed{4} is wrong.", []), (r"\boxed{1}, \boxed{2} and \boxed{3}", ["1", "2", "3"]),
    (r"One is $\boxed{5}$. The other is $\boxed{7}$.", ["5", "7"]), (r"\boxed{5}. Wait, and so \boxed{6}", ["6"]),
    (r"\boxed{\text{your answer}} is the form; \boxed{3}", ["3"]),
    (r"area $\boxed{18}\text{ cm}^2$", [r"18 \text{ cm}^2"]),
])  # fmt: skip
def test_boxes(completion: str, answers: list[str]) -> None:
    assert boxed(completion) == answers


@pytest.mark.parametrize(("completion", "prediction"), [
    (r"12 apples \boxed{7}, 9 left", "7"),
    ("...\nA: 1520", "1520"),
    ("#### 4\nThe answer is: 4", "4"),
    ("so 5.\n#### 1,450", "1,450"),
    ("**Final Answer:** $42$", "42"),
    ("**Final Answer**\n\n$\\frac{1}{2}$", r"\frac{1}{2}"),
    ("The answer is that she has 5 apples.", "5 apples"),
    ("It takes 2 and 2, so 24-12", "24-12"),
    ("he pays $1,234.50 in total", "$1,234.50"),
    ("it is -3 degrees", "-3 degrees"),
    ('{"reasoning": "9 \\boxed{8}", "answer": "47"}', "47"),
    ('```json\n{"reasoning": "", "answer": 47\n}\n```\nNow another: \\boxed{3}', "47"),
    ('{"reasoning": "x", "answer": "\\frac{1}{2}"}', r"\frac{1}{2}"),
    ('{"reasoning": "x", "answer": "\\\\frac{1}{2}"}', r"\frac{1}{2}"),
    ("```output\n36.0\n```\n36 people like horse #12.", "36.0"),
    ("no digits at all", None),
])  # fmt: skip
def test_extract_a_number(completion: str, prediction: str | None) -> None:
    assert extract(completion, NUMBER).text == prediction


def test_the_last_number_is_taken_for_numbers_alone() -> None:
    assert extract("so we have 7", NUMBER).answers == ("7",)
    assert extract("so we have 7", Wanted()).answers == ()
    assert extract("so we have $7$", Wanted()).answers == ("7",)


def test_neighbouring_boxes_are_one_list() -> None:
    text = r"The roots are $\boxed{1}$ and $\boxed{-2}$."
    assert extract(text, Wanted(is_list=True)).answers == ("1, -2",)
    assert extract(text, NUMBER).answers == ("1", "-2")
    assert extract(r"not \boxed{1}. Hence \boxed{2}", Wanted(is_list=True)).answers == ("2",)


@pytest.mark.parametrize(("completion", "evidence", "answer"), [
    (r"\boxed{5}", "box", "5"),
    (r"<think>\boxed{7}</think> The final answer is 5.", "answer mark", "5"),
    (r"\boxed{4} is wrong. \boxed{5", "cut off in a box", None),
    ('{"answer": "5"}', "JSON object", "5"), ('</think>\n{"answer": "5"}', "JSON object", "5"),
    ('Well: {"answer": 5}', "JSON field", "5"), ("18 is the final answer.", "named as the answer", "18"),
    ("```output\n36.0\n```\nDone, horse #12.", "printed output", "36.0"),
    ("```output\nTraceback: line 6\n```", "printed output", None), ("So it is 5.", "last mathematics", "5"),
    ("I give up.", "no_answer", None), (r"<think>\boxed{7}</think> I am done thinking.", "box", "7"),
    (r"Well, \boxed{5}<|im_end|>junk \boxed{6}", "box", "5"),
    ("The answer is 5.\n\nProblem: 2+2? The answer is 4.", "answer mark", "5"),
])  # fmt: skip
def test_evidence_has_a_name(completion: str, evidence: str, answer: str | None) -> None:
    found = extract(completion, NUMBER)
    assert (found.evidence, found.text) == (evidence, answer)


@pytest.mark.parametrize("completion", [
    "The total is 158 + K", "It is $2^{10", "See step 2", "I failed. See problem 12.", "so x = 3 and $y = 4 + ",
    "The answer is not 5.", "We get 5 thousandths", "The answer is between 3 and 5", "= 16 + 81 -",
])  # fmt: skip
def test_no_number_is_taken_out_of_what_it_belongs_to(completion: str) -> None:
    assert not {"158", "10", "2", "12", "4", "5", "81"} & set(extract(completion, NUMBER).answers)
