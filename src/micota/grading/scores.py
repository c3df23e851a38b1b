"""Verdicts -> scores: the verdict of one grader on each completion, and the summary of a benchmark's scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from micota.analysis.metrics import described
from micota.analysis.statistics import average_at_k
from micota.artifacts.scores import compact
from micota.errors import ConfigError
from micota.records import NOT_PROMPTED, Completion, Problem, Score, Verdict


class OfProblem(Protocol):
    """A row about a problem."""

    @property
    def problem_id(self) -> str: ...


def check_ids(rows: Sequence[OfProblem], problems: dict[str, Problem], where: str, benchmark: str) -> None:
    """Refuse completions of another benchmark.

    Raises:
        ConfigError: a completion answers a problem that the benchmark does not have.
    """
    foreign = [row.problem_id for row in rows if row.problem_id not in problems]
    if foreign:
        raise ConfigError(
            f"{where}: {len(foreign)} of {len(rows)} completions answer problems that {benchmark} does not have, as "
            f"{foreign[0]!r}; accepted: completions of this benchmark"
        )


def score_of(row: Completion, problem: Problem, by: dict[str, Verdict], grader: str) -> Score:
    """A graded completion, scored by one of the graders."""
    chosen = by[grader]
    score = Score(
        problem_id=problem.id,
        sample=row.sample,
        prediction=chosen.prediction,
        correct=chosen.correct,
        reason=chosen.reason,
        answer=problem.answer,
        grader=grader,
        graders={name: verdict.correct for name, verdict in by.items()},
        finish_reason=row.finish_reason,
        num_tokens=row.num_tokens,
        seconds=row.seconds,
    )
    return compact(score)


def scored(
    rows: Sequence[Completion], problems: dict[str, Problem], verdicts: Sequence[dict[str, Verdict]], grader: str
) -> list[Score]:
    """Graded completions, each with its verdicts by grader, scored by one of the graders."""
    return [score_of(row, problems[row.problem_id], by, grader) for row, by in zip(rows, verdicts, strict=True)]


def not_prompted(problem: Problem, sample: int, grader: str) -> Score:
    """The score of a problem whose prompt fills the context, so that no answer fits."""
    return Score(
        problem_id=problem.id,
        sample=sample,
        prediction=None,
        correct=None,
        reason=NOT_PROMPTED,
        answer=problem.answer,
        grader=grader,
        graders={},
        finish_reason=NOT_PROMPTED,
        num_tokens=0,
        seconds=0.0,
    )


def summarise(scores: Sequence[Score]) -> dict[str, Any]:
    """The content of ``scores.json``: accuracy (avg@k over problems) with its 95 % interval, counts of outcomes, the
    accuracy by each grader, and the metrics of ``analysis.metrics``."""
    rights = by_problem(scores)
    accuracy = average_at_k(rights)
    names = sorted({name for score in scores for name in score.graders})
    return {
        "grader": scores[0].grader,
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "standard_error": accuracy.standard_error,
        "num_problems": len(rights),
        "num_samples": accuracy.num_samples,
        "outcomes": dict(Counter(score.outcome for score in scores)),
        "graders": {name: sum(score.graders.get(name) is True for score in scores) / len(scores) for name in names},
        "num_tokens": sum(score.num_tokens for score in scores) / len(scores),
    } | described(scores)


def by_problem(scores: Sequence[Score]) -> dict[str, list[float]]:
    """1 or 0 for each sample of each problem."""
    rights: dict[str, list[float]] = {}
    for score in scores:
        rights.setdefault(score.problem_id, []).append(float(score.correct is True))
    return rights
