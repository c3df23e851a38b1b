"""The table of a merge sweep: intervals, errors, closed thoughts, ties, and what was chosen."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import Any

from rich.console import Console

from micota.console import print_table
from micota.merging.calibrate import Reading
from micota.records import Completion, MergePoint, Score
from micota.report.sweep_table import sweep_table, with_ties
from micota.stages.sweep_runner import counts, reading_of

LAYERS = [{"filter": "model.layers.0.", "value": 0.2}, {"value": 0.4}]


def point(form: str, weight: float | None, correct: int, tokens: float = 50.0, **more: Any) -> MergePoint:
    density = None if weight is None else 0.5
    return MergePoint(
        form=form, density=density, weight=weight, seed=0, num_problems=100, num_correct=correct, num_truncated=0,
        num_tokens=tokens, merge_seconds=0.1, answer_seconds=1.0, artifact=f"{form}{weight}{correct}",
        **{"accuracy_low": 0.7, "accuracy_high": 0.9, "tokens_error": 2.0} | more,
    )  # fmt: skip


def rights(points: list[MergePoint]) -> dict[str, dict[str, float]]:
    return {each.artifact: {str(i): float(i < each.num_correct) for i in range(100)} for each in points}


def printed(*arguments: Any) -> list[str]:
    out = StringIO()
    print_table(Console(file=out, width=200), sweep_table(*arguments))
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def test_merges_that_cannot_be_told_from_the_best_are_ties() -> None:
    points = [point("before", None, 90), point("merged", 0.3, 95), point("merged", 0.5, 92), point("merged", 0.7, 60)]
    assert [each.is_tied for each in with_ties(points, rights(points))] == [None, True, True, False]
    two = [replace(points[2], seed=1, num_correct=60, artifact="other seed")]
    split = with_ties([*points[:3], *two], rights([*points[:3], *two]))
    assert [each.is_tied for each in split] == [None, True, False, False], "the seeds of a merge are one merge"
    assert with_ties(points[:1], {}) == points[:1]


def test_a_row_has_the_interval_the_error_of_the_length_and_the_marks() -> None:
    points = [point("before", None, 90, num_closed=99), point("merged", 0.3, 95, num_closed=50, student_value=0.123456)]
    points += [point("merged", 0.2, 80, num_closed=20, by_layer=LAYERS)]
    marked = with_ties(points, rights(points))
    lines = printed(marked, "student_bpc", Reading(0.5, 0.3, 0.95, 50.0))
    assert "merge density weight accuracy % 95 % tokens closed % student BPC" in lines
    assert "before SFT 90.0 70.0-90.0 50 ±2.0 99.0 -" in lines
    assert "merged = > 0.5 0.3 95.0 70.0-90.0 50 ±2.0 50.0 0.1235" in lines
    assert "by layer 0.5 0.2 80.0 70.0-90.0 50 ±2.0 20.0 -" in lines
    chosen = printed(marked, "accuracy", Reading(0.5, 0.2, 0.8, 50.0, by_layer=LAYERS))
    assert "by layer > 0.5 0.2 80.0 70.0-90.0 50 ±2.0 20.0" in chosen
    assert "student" not in " ".join(printed(marked)), "where no student measured"


def test_rows_of_older_sweeps_are_shown_without_what_they_lack() -> None:
    old = replace(point("merged", 0.3, 95), accuracy_low=None, accuracy_high=None, tokens_error=None)
    assert "merged 0.5 0.3 95.0 50" in printed([old])


def test_counts_are_over_problems_and_closed_thoughts_over_answers() -> None:
    def answer(problem: str, sample: int, tokens: int, closed: bool) -> Completion:
        return Completion(
            problem_id=problem, sample=sample, prompt_hash="", completion="", finish_reason="stop",
            num_prompt_tokens=1, num_tokens=tokens, seconds=0.0, num_cot_tokens=1 if closed else None,
        )  # fmt: skip

    def score(problem: str, sample: int, tokens: int, correct: bool) -> Score:
        return Score(
            problem_id=problem, sample=sample, prediction="1", correct=correct, reason="", answer="1", grader="typed",
            graders={}, finish_reason="stop", num_tokens=tokens,
        )  # fmt: skip

    lengths = {("a", 0): 10, ("a", 1): 30, ("b", 0): 60, ("b", 1): 60}
    rows = [answer(*key, tokens, closed=key == ("a", 0)) for key, tokens in lengths.items()]
    scores = [score(*key, tokens, correct=key[0] == "a") for key, tokens in lengths.items()]
    found = counts(rows, scores, has_tags=True)
    assert (found["num_problems"], found["num_correct"], found["num_closed"], found["num_tokens"]) == (4, 2, 1, 40.0)
    assert found["tokens_error"] == 20.0, "of the means 20 and 60 of two problems"
    assert 0 < found["accuracy_low"] < 0.5 < found["accuracy_high"] < 1
    assert counts(rows, scores, has_tags=False)["num_closed"] is None


def test_a_reading_is_the_mean_over_seeds_of_what_the_student_measured() -> None:
    seeds = [point("merged", 0.3, 95, student_value=0.2), point("merged", 0.3, 85, student_value=0.4)]
    reading = reading_of([*seeds, point("merged", 0.3, 0)])
    assert reading.value is not None and round(reading.value, 6) == 0.3 and reading.accuracy == 0.6
    assert reading_of([point("merged", 0.3, 0)]).value is None
