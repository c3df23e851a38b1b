from __future__ import annotations

import pytest

from micota.errors import ConfigError
from micota.grading.disagreements import Disagreements
from micota.grading.scores import by_problem, check_ids, summarise
from micota.records import Completion, Problem, Score, Verdict

PROBLEMS = {str(number): Problem(id=str(number), problem=f"p{number}?", answer="1") for number in range(4)}


def score(
    problem: str, correct: bool | None, prediction: str | None = "1", sample: int = 0, finish: str = "stop"
) -> Score:
    return Score(
        problem_id=problem, sample=sample, prediction=prediction, correct=correct, reason="rule", answer="1",
        grader="typed", graders={"typed": correct, "paper_rule": False}, finish_reason=finish, num_tokens=10,
    )  # fmt: skip


def completion(problem: str, text: str) -> Completion:
    return Completion(
        problem_id=problem, sample=0, prompt_hash="h", completion=text, finish_reason="stop", num_prompt_tokens=1,
        num_tokens=1, seconds=0.1,
    )  # fmt: skip


def test_four_ways_of_not_being_right_are_counted_apart() -> None:
    rows = [
        score("0", True), score("1", False), score("2", None, None, finish="length"), score("3", None, None),
        score("4", None, "?"),
    ]  # fmt: skip
    summary = summarise(rows)
    assert summary["outcomes"] == {"correct": 1, "incorrect": 1, "truncated": 1, "no_answer": 1, "ungradable": 1}
    assert summary["accuracy"] == 0.2 and summary["graders"] == {"paper_rule": 0.0, "typed": 0.2}


def test_avg_at_k_has_its_interval_over_problems() -> None:
    rows = [score(problem, right, sample=sample) for problem in "ab" for sample, right in enumerate((True, False))]
    summary = summarise(rows)
    assert summary["num_samples"] == 2 and summary["num_problems"] == 2 and summary["accuracy"] == 0.5
    assert by_problem(rows) == {"a": [1.0, 0.0], "b": [1.0, 0.0]}


def test_every_problem_needs_the_same_number_of_samples() -> None:
    with pytest.raises(ValueError, match="every problem needs the same number"):
        summarise([score("a", True), score("a", True, sample=1), score("b", True)])


def test_completions_of_another_benchmark_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"1 of 2 completions .* does not have, as '9'"):
        check_ids([completion("0", ""), completion("9", "")], PROBLEMS, "here", "bench.jsonl")


def page_of(rows: list[Completion], verdicts: list[dict[str, Verdict]]) -> str:
    page = Disagreements(PROBLEMS)
    page.add(rows, verdicts)
    return page.page()


def test_the_first_disagreements_are_shown_and_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("micota.grading.disagreements.MAX_SHOWN", 2)
    right, wrong = (Verdict(prediction="1", correct=correct, reason="rule") for correct in (True, False))
    page = page_of([completion(str(number), "x") for number in range(4)], [{"typed": right, "paper_rule": wrong}] * 4)
    assert "4 of 4 completions" in page and "The first 2 are here." in page and page.count("## ") == 2


def test_disagreements_are_for_people_to_read() -> None:
    rows = [completion("0", "long story | `x` \ud800"), completion("1", "same")]
    wrong = Verdict(prediction="a|`b`", correct=False, reason="rule")
    right = Verdict(prediction="1", correct=True, reason="rule")
    page = page_of(rows, [{"typed": right, "paper_rule": wrong}, {"typed": right, "paper_rule": right}])
    assert page.startswith("# Disagreements between graders: 1 of 2 completions")
    assert "## 0, sample 0" in page and "## 1" not in page and "long story" in page
    assert r"| paper_rule | wrong | `a\|'b'` | rule |" in page
    page.encode()  # nothing that a file could not hold


def test_no_disagreement() -> None:
    assert page_of([], []) == "# Disagreements between graders: 0 of 0 completions\n"
