r"""Kinds of answers: minimal inputs of this project, and those of shared/data where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from micota.grading.graders import Graders, Submission
from micota.records import Problem, outcome_of

HARD = Path(__file__).resolve().parents[3] / "shared" / "data" / "grading" / "hard_cases.jsonl"
# Ids of shared inputs whose expected verdict this project contests; docs/explanation/grading.md says why. None today.
CONTESTED: frozenset[str] = frozenset()


def kinds() -> list[tuple[str, str, bool, str]]:
    """Rows of ``kinds.txt``: kind, gold, whether the completion is right, completion."""
    rows = []
    kind = ""
    for line in Path(__file__).with_name("kinds.txt").read_text(encoding="utf-8").split("\n"):
        if line.startswith("= "):
            kind = line[2:]
        elif line and not line.startswith("#"):
            gold, expected, completion = line.split(" | ", 2)
            for mark, character in (("⏎", "\n"), ("^L", "\x0c"), ("^H", "\x08")):
                completion = completion.replace(mark, character)
            rows.append((kind, gold, expected == "T", completion))
    return rows


def test_every_kind(graders: Graders) -> None:
    rows = kinds()
    submissions = [Submission(Problem(id="", problem="", answer=gold), completion) for _, gold, _, completion in rows]
    verdicts = [by["typed"].correct is True for by in graders.grade(submissions)]
    assert [row for row, right in zip(rows, verdicts, strict=True) if right != row[2]] == []
    assert len(rows) > 400 and len({kind for kind, *_ in rows}) > 30


@pytest.mark.skipif(not HARD.exists(), reason="needs the hard cases of shared/data")
def test_hard_cases(graders: Graders) -> None:
    rows = [json.loads(line) for line in HARD.open(encoding="utf-8")]
    submissions = [
        Submission(
            Problem(id=row["id"], problem="", answer=row["answer"], answer_type=row["answer_type"]), row["completion"]
        )
        for row in rows
    ]
    verdicts = [by["typed"].correct is True for by in graders.grade(submissions)]
    differing = {row["id"] for row, right in zip(rows, verdicts, strict=True) if right != row["expected"]}
    assert differing == CONTESTED


@pytest.mark.parametrize(("gold", "completion", "outcome"), [
    ("5", r"\boxed{5} or \boxed{7}", "ambiguous"), ("5", "The answer is $5$ or $7$.", "ambiguous"),
    ("A", "The answer is (A) or (B).", "ambiguous"), ("5", r"\boxed{7} or \boxed{8}", "ambiguous"),
    ("5", r"\boxed{5}. So the final answer is 6.", "ambiguous"),
    ("5", r"\boxed{\frac{10}{2}}. The answer is 5.", "correct"),
    ("5", r"\boxed{6}", "incorrect"), ("5", "I give up.", "no_answer"),
    ("5", r"\boxed{5 thousandths}", "ungradable"),
    ("5,7", r"\boxed{5} or \boxed{7}", "correct"),
])  # fmt: skip
def test_two_different_final_answers_are_an_outcome_of_their_own(
    graders: Graders, gold: str, completion: str, outcome: str
) -> None:
    verdict = graders.grade([Submission(Problem(id="", problem="", answer=gold), completion)])[0]["typed"]
    assert outcome_of(verdict.correct, verdict.prediction, "stop", verdict.reason) == outcome
    assert outcome != "ambiguous" or verdict.correct is None
