from __future__ import annotations

import pytest

from micota.analysis.lengths import (
    data_responses,
    lengths,
    lengths_by_outcome,
    reflection_spans,
    reflections,
    responses,
)
from micota.analysis.statistics import PairingError
from micota.records import Completion, Example, Score


@pytest.mark.parametrize(("text", "counts"), [
    ("Wait, wait. WAIT!", {"wait": 3}),
    ("await waiting waiter wait_for wait2", {}),
    ("But why? butter, rebut; (but)", {"but": 2}),
    ("Alternatively, alternatively-speaking; alternative", {"alternatively": 2}),
    ("Let me check. let me\n  CHECK, let me recheck, outlet me check", {"let me check": 2}),
    ("", {}),
])  # fmt: skip
def test_words_are_whole_and_in_any_case(text: str, counts: dict[str, int]) -> None:
    expected = {word: counts.get(word, 0) for word in ("wait", "but", "alternatively", "let me check")}
    assert reflections(text) == expected
    assert len(reflection_spans(text)) == sum(counts.values())


def test_spans_are_where_the_words_stand() -> None:
    text = "So 3. Wait, let me\ncheck that."
    assert [text[start:end] for start, end in reflection_spans(text)] == ["Wait", "let me\ncheck"]


def test_other_words_can_be_counted() -> None:
    assert reflections("Hmm, check again: hmm", ("hmm", "check again", "check")) == {
        "hmm": 2, "check again": 1, "check": 0,
    }  # fmt: skip


def completion(problem: str, tokens: int, text: str, finish: str = "stop") -> Completion:
    return Completion(
        problem_id=problem, sample=0, prompt_hash="", completion=text, finish_reason=finish, num_prompt_tokens=1,
        num_tokens=tokens, seconds=0.1,
    )  # fmt: skip


def score(problem: str, correct: bool | None, finish: str = "stop") -> Score:
    return Score(
        problem_id=problem, sample=0, prediction=None if correct is None else "7", correct=correct, reason="",
        answer="7", grader="typed", graders={}, finish_reason=finish, num_tokens=1,
    )  # fmt: skip


COMPLETIONS = [
    completion("a", 10, "Wait. But 7."), completion("b", 30, "7"), completion("c", 20, "wait wait wait"),
    completion("d", 100, "wait " * 9, "length"),
]  # fmt: skip
SCORES = [score("d", None, "length"), score("a", True), score("b", True), score("c", False)]


def test_lengths_of_all_and_by_outcome() -> None:
    rows = responses(COMPLETIONS, SCORES)
    assert [row.outcome for row in rows] == ["correct", "correct", "incorrect", "truncated"]
    by_outcome = lengths_by_outcome(rows)
    assert list(by_outcome) == ["all", "correct", "incorrect", "truncated"]
    assert by_outcome["all"] == lengths(rows)
    assert (
        by_outcome["all"].num_tokens == 40 and by_outcome["all"].p50 == 25 and by_outcome["all"].share_truncated == 0.25
    )
    assert by_outcome["all"].reflections == {"wait": 13 / 4, "but": 1 / 4, "alternatively": 0, "let me check": 0}
    assert by_outcome["all"].num_reflections == 14 / 4 and by_outcome["all"].share_reflecting == 0.75
    assert by_outcome["all"].reflections_per_1000_tokens == pytest.approx(14 / 160 * 1000)
    assert by_outcome["correct"].num_tokens == 20 and by_outcome["correct"].num_reflections == 1
    assert by_outcome["truncated"].share_truncated == 1


def test_an_answer_without_a_score_is_an_error() -> None:
    with pytest.raises(PairingError, match="sample 0 of problem 'b' has no score"):
        responses(COMPLETIONS, SCORES[:2])


def test_training_data_are_counted_alike() -> None:
    rows = [
        Example(problem_id=problem, messages=[], completion=text, num_tokens=5, source="x")
        for problem, text in (("a", "Wait, no."), ("a", "so"), ("b", "But wait"))
    ]
    responses_of_data = data_responses(rows)
    assert [(row.problem_id, row.sample, row.num_reflections) for row in responses_of_data] == [
        ("a", 0, 1),
        ("a", 1, 0),
        ("b", 0, 2),
    ]
    assert lengths(responses_of_data).reflections["wait"] == pytest.approx(2 / 3)
