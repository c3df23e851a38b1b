"""Grades outputs of any model: ``python evaluate.py grade=FILE.jsonl``. Needs no artifact and no torch."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from micota.artifacts.jsonl import json_line, write_text
from micota.artifacts.row_files import MAX_ROWS
from micota.config import ANSWER_TYPES, PAPER_RULES, EvaluateConfig, EvaluationConfig
from micota.config.fields import LARGEST
from micota.config.models import local_path
from micota.console import open_console, progress_bar
from micota.data.sources import NOTHING, read_rows
from micota.data.training_rows import ENDS, end_of
from micota.errors import SourceError
from micota.grading.gold import GoldError, joined, listed
from micota.grading.graders import Graders, Submission, gold_for, graders_of
from micota.grading.groups import grouped
from micota.grading.judge import add_judged
from micota.grading.scores import summarise
from micota.records import Problem, Score, Verdict
from micota.visible import SURROGATE

FORM = (
    '{"id", "completion", "answer"} and, if wanted, "problem_id", "sample" (several answers to one problem), '
    '"answer_type", "tolerance", "unit", "rule", "finish_reason", "num_tokens", "problem", "level", "subject"'
)
LABELS = ("level", "subject")  # parts of a benchmark, each with an accuracy of its own
Graded = tuple[Problem, dict[str, Any]]  # the problem of a row, and the row


def grade_file(config: EvaluateConfig, console: Console | None = None) -> dict[str, Any]:
    """Grade the rows of ``config.grade`` by every grader into ``FILE.scores.jsonl`` beside it, and print a summary as
    JSON on the last line; returns the summary.

    Raises:
        SourceError: a line is broken, or a row lacks a field; the text names the file and line. Nothing is written.
    """
    assert config.grade is not None
    console = console or open_console()
    path = local_path(config.grade)
    if not path.is_file():
        raise SourceError(f"grade={str(path)!r}: there is no such file; accepted: a .jsonl file with rows {FORM}")
    scored, scores = graded(read_rows(path), str(path), config.evaluation, console)
    target = path.with_name(path.name.removesuffix(".jsonl") + ".scores.jsonl")
    write_text(target, "".join(json_line(row) for row in scored))
    summary = _summary(scores, target)
    print(json.dumps(summary))
    return summary


def graded(
    given: Iterable[Mapping[str, Any]], name: str, evaluation: EvaluationConfig, console: Console
) -> tuple[list[dict[str, Any]], list[Score]]:
    """Return the verdicts on answers of any model: a row each for the user, and as scores.

    Raises:
        SourceError: a row lacks a field, or problems differ in their number of samples; the text has ``name``, and the
            number of the row.
    """
    rows = list(graded_rows(given, name))
    _check_samples(rows, name)
    verdicts: list[dict[str, Verdict]] = []
    with graders_of(evaluation) as graders, progress_bar(console) as bar:
        task = bar.add_task(f"grade {Path(name).name}", total=len(rows), note="")
        for start in range(0, len(rows), MAX_ROWS):
            verdicts += _verdicts(graders, rows[start : start + MAX_ROWS])
            bar.update(task, completed=len(verdicts), note="")
        if evaluation.judge.url is not None:
            for _ in add_judged(verdicts, [problem for problem, _ in rows], evaluation.judge):
                pass
        scores = [_score(row, by, evaluation.grader) for row, by in zip(rows, verdicts, strict=True)]
        scores = grouped(scores, {problem.id: problem for problem, _ in rows}, graders)
    return [_scored(row, score) for (_, row), score in zip(rows, scores, strict=True)], scores


def _verdicts(graders: Graders, rows: Sequence[Graded]) -> list[dict[str, Verdict]]:
    """The verdicts on rows, each by its own published rule."""
    verdicts: list[dict[str, Verdict]] = [{} for _ in rows]
    for rule in dict.fromkeys(_rule(row) for _, row in rows):
        places = [index for index, (_, row) in enumerate(rows) if _rule(row) == rule]
        chosen = [rows[index] for index in places]
        submissions = [
            Submission(problem, row["completion"], row.get("finish_reason") != "length") for problem, row in chosen
        ]
        for index, by in zip(places, graders.grade(submissions, rule), strict=True):
            verdicts[index] = by
    return verdicts


def _rule(row: Mapping[str, Any]) -> str:
    return row.get("rule") or PAPER_RULES[0]


def _check_samples(rows: Sequence[Graded], origin: str) -> None:
    """Refuse problems with different numbers of samples: an average over them would weigh problems by it."""
    counts = Counter(problem.id for problem, _ in rows)
    most = max(counts.values())
    short = [identity for identity, count in counts.items() if count < most]
    if short:
        raise SourceError(
            f"{origin}: problem {short[0]!r} has {counts[short[0]]} samples and others have {most} ({len(short)} have "
            "fewer); accepted: the same number of samples of each problem"
        )


def graded_rows(given: Iterable[Any], origin: str) -> Iterator[Graded]:
    """Yield every row with its problem, after checks of all rows: an error lists every bad one.

    Raises:
        SourceError: a row lacks a field or has a bad one; the text has the number of each.
    """
    seen: dict[tuple[str, int], int] = {}
    problems: dict[str, Problem] = {}
    bad: list[str] = []
    rows: list[Graded] = []
    for number, row in enumerate(given, start=1):
        complaint = _complaint(row) or _complaint_among(row, seen, problems, number)
        if complaint is not None:
            bad.append(f"{origin}:{number}: {complaint}")
        else:
            rows.append((_problem(row), dict(row)))
    if bad:
        raise SourceError(listed(bad))
    if not rows:
        raise SourceError(f"{origin} has no rows; accepted: rows {FORM}")
    yield from rows


def _complaint(row: Any) -> str | None:
    """What is wrong with a row alone, or None."""
    if not isinstance(row, Mapping):
        return f"{type(row).__name__}; accepted: rows {FORM}"
    for name in ("problem_id" if "problem_id" in row else "id", "completion", "answer"):
        if name not in row:
            return f"no {name!r}; accepted: rows {FORM}"
    if not isinstance(row["completion"], str):
        return f"completion is {type(row['completion']).__name__}; accepted: a string"
    answers = row["answer"] if isinstance(row["answer"], list) and row["answer"] else [row["answer"]]
    for answer in answers:
        if not isinstance(answer, str | int | float) or isinstance(answer, bool):
            return f"answer is {type(answer).__name__}; accepted: a string or a number, or a list of right answers"
        if isinstance(answer, float) and not math.isfinite(answer):
            return f"answer is {answer}; accepted: a string or a finite number"
        if SURROGATE.search(str(answer)):
            return f"answer={answer!r}; accepted: a text without half of a character (a surrogate)"
        if str(answer).strip().lower() in NOTHING and row.get("answer_type") != "text":
            return (
                f"answer={answer!r}, which programs write where there is no value; accepted: a gold answer, or with "
                "answer_type=text this word"
            )
    return _complaint_on_options(row)


def _complaint_on_options(row: Mapping[str, Any]) -> str | None:
    """What is wrong with the ids and the optional fields of a row, or None."""
    for name in ("id", "problem_id"):
        if name in row and (not isinstance(row[name], str | int) or isinstance(row[name], bool)):
            return f"{name} is {type(row[name]).__name__}; accepted: a string or an integer"
        if name in row and not str(row[name]).strip():
            return f"{name}={row[name]!r}; accepted: a string that is not empty, or an integer"
    for name in LABELS:
        if row.get(name) is not None and (not isinstance(row[name], str | int) or isinstance(row[name], bool)):
            return f"{name} is {type(row[name]).__name__}; accepted: a string or an integer"
    for name in ("unit", "finish_reason", "problem"):
        if row.get(name) is not None and not isinstance(row[name], str):
            return f"{name} is {type(row[name]).__name__}; accepted: a string"
    for name in ("id", "problem_id", *LABELS):
        if SURROGATE.search(str(row.get(name))):
            return f"{name}={str(row[name])[:80]!r}; accepted: a text without half of a character (a surrogate)"
    for name in ("sample", "num_tokens"):
        if name in row and (type(row[name]) is not int or not 0 <= row[name] <= LARGEST):
            return f"{name}={row[name]!r}; accepted: a whole number from 0 to {LARGEST}"
    if _end(row) is None:
        return f"finish_reason={row['finish_reason']!r}; accepted: {ENDS}, error"
    for name, accepted in (("answer_type", ANSWER_TYPES), ("rule", PAPER_RULES)):
        if row.get(name) not in (None, *accepted):
            return f"{name}={row[name]!r}; accepted: {', '.join(accepted)}"
    return None


def _end(row: Mapping[str, Any]) -> str | None:
    """``stop``, ``length`` or ``error``; None for a word that no API has."""
    word = row.get("finish_reason") or "stop"
    return word if word == "error" else end_of(word)


def _complaint_among(
    row: Mapping[str, Any], seen: dict[tuple[str, int], int], problems: dict[str, Problem], number: int
) -> str | None:
    """What is wrong with a row's gold, or with the row beside those before it, or None; adds it to them."""
    try:
        problem = _problem(row)
        gold_for(problem)
    except GoldError as error:
        return str(error)
    key = problem.id, row.get("sample", 0)
    if key in seen:
        of_sample = f", sample {key[1]}," if "sample" in row else ""
        several = '; or rows of one "problem_id" have a "sample" each' if "sample" not in row else ""
        return f"id {problem.id!r}{of_sample} stands on line {seen[key]} too; accepted: ids that are unique{several}"
    seen[key] = number
    first = problems.setdefault(problem.id, problem)
    if first != problem:
        return (
            f"problem {problem.id!r} has the answer {problem.answer!r} here, and {first.answer!r} before; accepted: "
            "samples of one problem with the same answer, type, unit and tolerance"
        )
    return None


def _problem(row: Mapping[str, Any]) -> Problem:
    answers = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
    tolerance = row.get("tolerance")
    return Problem(
        id=str(row.get("problem_id", row.get("id"))),
        problem=str(row.get("problem", "")),
        answer=joined([str(answer).strip() for answer in answers]),
        answer_type=row.get("answer_type") or "auto",
        tolerance=None if tolerance is None else str(tolerance),
        unit=None if row.get("unit") is None else str(row["unit"]),
    )


def _score(graded: Graded, by: dict[str, Verdict], grader: str) -> Score:
    problem, row = graded
    chosen = by[grader]
    return Score(
        problem_id=problem.id,
        sample=row.get("sample", 0),
        prediction=chosen.prediction,
        correct=chosen.correct,
        reason=chosen.reason,
        answer=problem.answer,
        grader=grader,
        graders={name: verdict.correct for name, verdict in by.items()},
        finish_reason=_end(row) or "stop",
        num_tokens=row.get("num_tokens", 0),
        level=_label(row, "level"),
        subject=_label(row, "subject"),
    )


def _label(row: Mapping[str, Any], name: str) -> str | None:
    return None if row.get(name) is None else str(row[name])


def _scored(row: dict[str, Any], score: Score) -> dict[str, Any]:
    """A row of the output: what names it, and its verdict; where problems have several samples, the group of equal
    answers."""
    names = {name: row[name] for name in ("id", "problem_id", "sample") if name in row}
    return names | {
        "prediction": score.prediction,
        "correct": score.correct,
        "reason": "truncated" if score.outcome == "truncated" else score.reason,
        "graders": score.graders,
        **({"group": score.group} if score.group is not None else {}),
    }


def _summary(scores: Sequence[Score], target: Path) -> dict[str, Any]:
    """The summary of a file: that of a benchmark's scores; costs only where rows have their tokens."""
    summary = summarise(scores)
    costs = ("num_tokens", "tokens_per_right")
    dropped = {"standard_error", "seconds_per_right", *(costs if not summary["num_tokens"] else ())}
    return {"file": str(target), "rows": len(scores)} | {
        name: value for name, value in summary.items() if name not in dropped
    }
