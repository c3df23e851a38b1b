"""Grades outputs of any model: ``python evaluate.py grade=FILE.jsonl``. Needs no artifact and no torch."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from micota.analysis.intervals import wilson
from micota.artifacts.jsonl import json_line, write_text
from micota.config import ANSWER_TYPES, EvaluateConfig, EvaluationConfig
from micota.console import open_console, progress_bar
from micota.data.sources import read_rows
from micota.errors import SourceError
from micota.grading.gold import GoldError, joined, listed
from micota.grading.graders import Submission, gold_for, graders_of
from micota.grading.judge import add_judged
from micota.records import Problem, Verdict, outcome_of
from micota.stages.grade import CHUNK

FORM = '{"id", "completion", "answer"} and, if wanted, "answer_type", "tolerance", "unit", "finish_reason", "problem"'


def grade_file(config: EvaluateConfig, console: Console | None = None) -> dict[str, Any]:
    """Grade the rows of ``config.grade`` by every grader into ``FILE.scores.jsonl`` beside it, and print a summary as
    JSON on the last line; returns the summary.

    Raises:
        SourceError: a line is broken, or a row lacks a field; the text names the file and line. Nothing is written.
    """
    assert config.grade is not None
    console = console or open_console()
    path = Path(config.grade)
    if not path.is_file():
        raise SourceError(f"grade={str(path)!r}: there is no such file; accepted: a .jsonl file with rows {FORM}")
    scored, outcomes = graded(read_rows(path), str(path), config.evaluation, console)
    target = path.with_name(path.name.removesuffix(".jsonl") + ".scores.jsonl")
    write_text(target, "".join(json_line(row) for row in scored))
    summary = _summary(scored, outcomes, config.evaluation.grader, target)
    print(json.dumps(summary))
    return summary


def graded(
    given: Iterable[Mapping[str, Any]], name: str, evaluation: EvaluationConfig, console: Console
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Return the verdicts on answers of any model, a row each, and the number of each outcome.

    Raises:
        SourceError: a row lacks a field; the text has ``name`` and its number.
    """
    rows = list(_rows(given, name))
    verdicts: list[dict[str, Verdict]] = []
    with graders_of(evaluation) as graders, progress_bar(console) as bar:
        task = bar.add_task(f"grade {Path(name).name}", total=len(rows), note="")
        for start in range(0, len(rows), CHUNK):
            chunk = [
                Submission(problem, row["completion"], row.get("finish_reason") != "length")
                for problem, row in rows[start : start + CHUNK]
            ]
            verdicts += graders.grade(chunk)
            bar.update(task, completed=len(verdicts), note="")
    if evaluation.judge.url is not None:
        for _ in add_judged(verdicts, [problem for problem, _ in rows], evaluation.judge):
            pass
    scored = [_scored(row, by, evaluation.grader) for (_, row), by in zip(rows, verdicts, strict=True)]
    outcomes = Counter(_outcome(row, by[evaluation.grader]) for (_, row), by in zip(rows, verdicts, strict=True))
    return scored, outcomes


def _rows(given: Iterable[Any], origin: str) -> Iterator[tuple[Problem, dict[str, Any]]]:
    """Yield every row with its problem, after checks of all rows: an error lists every bad one.

    Raises:
        SourceError: a row lacks a field or has a bad one; the text has the number of each.
    """
    seen: dict[str, int] = {}
    bad: list[str] = []
    rows: list[tuple[Problem, dict[str, Any]]] = []
    for number, row in enumerate(given, start=1):
        complaint = _complaint(row, seen, number)
        if complaint is not None:
            bad.append(f"{origin}:{number}: {complaint}")
        else:
            rows.append((_problem(row), dict(row)))
    if bad:
        raise SourceError(listed(bad))
    if not rows:
        raise SourceError(f"{origin} has no rows; a row is {FORM}")
    yield from rows


def _complaint(row: Any, seen: dict[str, int], number: int) -> str | None:
    """What is wrong with a row, or None; adds its id to ``seen``."""
    if not isinstance(row, Mapping):
        return f"{type(row).__name__}; a row is {FORM}"
    for name in ("id", "completion", "answer"):
        if name not in row:
            return f"no {name!r}; a row is {FORM}"
    if not isinstance(row["completion"], str):
        return f"completion is {type(row['completion']).__name__}; accepted: a string"
    answers = row["answer"] if isinstance(row["answer"], list) and row["answer"] else [row["answer"]]
    for answer in answers:
        if not isinstance(answer, str | int | float) or isinstance(answer, bool):
            return f"answer is {type(answer).__name__}; accepted: a string or a number, or a list of right answers"
        if isinstance(answer, float) and not math.isfinite(answer):
            return f"answer is {answer}; accepted: a string or a finite number"
    if not isinstance(row["id"], str | int) or isinstance(row["id"], bool):
        return f"id is {type(row['id']).__name__}; accepted: a string or an integer"
    if row.get("answer_type") not in (None, *ANSWER_TYPES):
        return f"answer_type={row['answer_type']!r}; accepted: {', '.join(ANSWER_TYPES)}"
    identity = str(row["id"])
    if identity in seen:
        return f"id {identity!r} stands on line {seen[identity]} too; ids must be unique"
    seen[identity] = number
    try:
        gold_for(_problem(row))
    except GoldError as error:
        return str(error)
    return None


def _problem(row: Mapping[str, Any]) -> Problem:
    answers = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
    tolerance = row.get("tolerance")
    return Problem(
        id=str(row["id"]),
        problem=str(row.get("problem", "")),
        answer=joined([str(answer).strip() for answer in answers]),
        answer_type=row.get("answer_type") or "auto",
        tolerance=None if tolerance is None else str(tolerance),
        unit=None if row.get("unit") is None else str(row["unit"]),
    )


def _outcome(row: dict[str, Any], chosen: Verdict) -> str:
    return outcome_of(chosen.correct, chosen.prediction, row.get("finish_reason"), chosen.reason)


def _scored(row: dict[str, Any], by: dict[str, Verdict], grader: str) -> dict[str, Any]:
    """A row of the output."""
    chosen = by[grader]
    return {
        "id": row["id"],
        "prediction": chosen.prediction,
        "correct": chosen.correct,
        "reason": "truncated" if _outcome(row, chosen) == "truncated" else chosen.reason,
        "graders": {name: verdict.correct for name, verdict in by.items()},
    }


def _summary(scored: list[dict[str, Any]], outcomes: Counter[str], grader: str, target: Path) -> dict[str, Any]:
    right = sum(row["correct"] is True for row in scored)
    accuracy = wilson(right, len(scored))
    return {
        "file": str(target),
        "rows": len(scored),
        "grader": grader,
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "outcomes": dict(outcomes),
        "graders": {
            name: sum(row["graders"][name] is True for row in scored) / len(scored) for name in scored[0]["graders"]
        },
    }
