"""Answers to browse: each problem with the completion of every model, within a limit of bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from micota.artifacts.jsonl import visible
from micota.artifacts.store import Store
from micota.data.sources import load_problems
from micota.errors import SourceError
from micota.graph.node import AnyNode
from micota.records import Score
from micota.report.read import completions, load
from micota.report.rows import Graded

MAX_PROBLEMS = 100  # of each benchmark on the page
MAX_COMPLETION_BYTES = 8_000_000  # of all completions on the page, before compression


def answers(store: Store, models: Sequence[Mapping[str, AnyNode]], max_bytes: int = MAX_COMPLETION_BYTES) -> list[Any]:
    """Return the first sample of every model for the first problems of each benchmark, by benchmark.

    ``models`` are the scores of each model by benchmark. An answer is a list of outcome, prediction, tokens and
    completion, in the order of the models; it is None if the model did not get the prompt.

    Raises:
        ArtifactError: scores are missing or damaged.
    """
    graded = [load(store, scores) for scores in models]
    names = list(dict.fromkeys(bench for scores in models for bench in scores))
    benchmarks = {bench: _problems(store, bench, models, graded) for bench in names}
    shown = _fitting(list(benchmarks.values()), max_bytes)
    return [
        {
            "name": bench,
            "total": len({score.problem_id for rows in graded for score in rows.get(bench, [])}),
            "problems": problems[:shown],
        }
        for bench, problems in benchmarks.items()
    ]


def _problems(
    store: Store, bench: str, models: Sequence[Mapping[str, AnyNode]], graded: Sequence[Graded]
) -> list[dict[str, Any]]:
    """Return at most ``MAX_PROBLEMS`` of a benchmark with the answers of all models."""
    golds = {score.problem_id: score.answer for rows in graded for score in rows.get(bench, [])}
    ids = list(golds)[:MAX_PROBLEMS]
    texts = _texts(next(scores[bench] for scores in models if bench in scores))
    texts_by_model = [_completions(store, scores[bench], set(ids)) if bench in scores else {} for scores in models]
    first = [{score.problem_id: score for score in rows.get(bench, []) if score.sample == 0} for rows in graded]
    return [
        {
            "id": identity,
            "problem": texts.get(identity),
            "gold": visible(golds[identity]),
            "answers": [
                _answer(score.get(identity), completion.get(identity))
                for score, completion in zip(first, texts_by_model, strict=True)
            ],
        }
        for identity in ids
    ]


def _answer(score: Score | None, completion: str | None) -> list[Any] | None:
    """Return an answer for the page; None if the model did not get the prompt."""
    if score is None:
        return None
    prediction, text = (None if part is None else visible(part) for part in (score.prediction, completion))
    return [score.outcome, prediction, score.num_tokens, text]


def _texts(node: AnyNode) -> dict[str, str]:
    """Return the text of each problem by id; empty if the source cannot be reached now (hub data sets, offline).

    A report of finished runs needs no network, so a missing text is no error.
    """
    try:
        return {problem.id: visible(problem.problem) for problem in load_problems(node.spec.problems)}
    except (OSError, SourceError):
        return {}


def _completions(store: Store, node: AnyNode, ids: set[str]) -> dict[str, str]:
    """Return the completions of a model for some problems (first samples); empty if they have been deleted."""
    rows = completions(store, node) or []
    return {row.problem_id: row.completion for row in rows if row.sample == 0 and row.problem_id in ids}


def _fitting(benchmarks: Sequence[Sequence[Mapping[str, Any]]], max_bytes: int) -> int:
    """Return how many problems of each benchmark fit into ``max_bytes`` of completions, at least 1."""
    size = 0
    longest = max((len(problems) for problems in benchmarks), default=0)
    for count in range(longest):
        rows = [problems[count] for problems in benchmarks if count < len(problems)]
        size += sum(len(answer[3].encode()) for row in rows for answer in row["answers"] if answer and answer[3])
        if size > max_bytes:
            return max(1, count)
    return longest
