"""Long chains of thought: which part is the answer, and that more text costs only more time."""

from __future__ import annotations

import time

import pytest
from long_texts import long_texts

from micota.grading.extraction.extract import extract
from micota.grading.extraction.marks import Wanted
from micota.grading.graders import Graders, Submission
from micota.records import Problem, outcome_of


def test_the_answer_of_a_long_chain_of_thought(graders: Graders) -> None:
    texts = list(long_texts())
    assert len(texts) >= 60 and all(5_000 < len(text.completion) < 70_000 for text in texts)
    problems = [Problem(id="", problem="", answer=text.gold) for text in texts]
    rows = [Submission(problem, t.completion, t.is_finished) for problem, t in zip(problems, texts, strict=True)]
    missed = []
    for text, by in zip(texts, graders.grade(rows), strict=True):
        verdict = by["typed"]
        finish = "stop" if text.is_finished else "length"
        outcome = outcome_of(verdict.correct, verdict.prediction, finish, verdict.reason)
        if outcome != text.outcome:
            missed.append((text.style, text.gold, text.outcome, outcome, verdict))
    assert missed == []


@pytest.mark.parametrize("before", ["", "Final Answer:", "The answer is"])
@pytest.mark.parametrize("piece", [
    r"\boxed{1},", r"\boxed{1} is wrong. ", r"so $x=\boxed{1}$ and ", "\n", " ", "$", r"\(", "answer is ",
    "####", "</think>",
    '"answer": "', "{", "```output\n", "1 ",
])  # fmt: skip
def test_work_is_linear_in_the_length(piece: str, before: str) -> None:
    def seconds(count: int) -> float:
        text = before + piece * (count // len(piece))
        times = []
        for _ in range(2):
            start = time.process_time()
            extract(text, Wanted(is_number=True))
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(1_000) < 24 * seconds(125) + 0.1
    # Of anything quadratic, eight times the length takes 64 times as long.
    assert seconds(160_000) < 24 * seconds(20_000) + 0.1
