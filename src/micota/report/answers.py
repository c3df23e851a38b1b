"""Answers to browse: each problem with what every model wrote, within a budget of bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from micota.artifacts.store import Store
from micota.data.sources import load_problems
from micota.errors import SourceError
from micota.graph.node import AnyNode
from micota.records import Score
from micota.report.read import completions, load
from micota.report.rows import Graded

MAX_PROBLEMS = 100  # of each benchmark whose answers are on the page
MAX_COMPLETION_BYTES = 8_000_000  # of all completions on the page, before it is packed


def answers(store: Store, models: Sequence[Mapping[str, AnyNode]], budget: int = MAX_COMPLETION_BYTES) -> list[Any]:
    """The first sample of every model for the first problems of each benchmark, by benchmark.

    ``models`` are the scores of each model by benchmark. An answer is a list of outcome, prediction, tokens and
    completion, in the order of the models; null where a model was not asked.

    Raises:
        ArtifactError: scores are missing or damaged.
    """
    graded = [load(store, scores) for scores in models]
    names = list(dict.fromkeys(bench for scores in models for bench in scores))
    benchmarks = {bench: _problems(store, bench, models, graded) for bench in names}
    shown = _fitting(list(benchmarks.values()), budget)
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
    """At most ``MAX_PROBLEMS`` of a benchmark with the answers of all models."""
    golds = {score.problem_id: score.answer for rows in graded for score in rows.get(bench, [])}
    ids = list(golds)[:MAX_PROBLEMS]
    texts = _texts(next(scores[bench] for scores in models if bench in scores))
    written = [_completions(store, scores[bench], set(ids)) if bench in scores else {} for scores in models]
    first = [{score.problem_id: score for score in rows.get(bench, []) if score.sample == 0} for rows in graded]
    return [
        {
            "id": identity,
            "problem": texts.get(identity),
            "gold": golds[identity],
            "answers": [
                _answer(score.get(identity), completion.get(identity))
                for score, completion in zip(first, written, strict=True)
            ],
        }
        for identity in ids
    ]


def _answer(score: Score | None, completion: str | None) -> list[Any] | None:
    """None where this model was never asked."""
    return [score.outcome, score.prediction, score.num_tokens, completion] if score else None


def _texts(node: AnyNode) -> dict[str, str]:
    """The text of each problem by id; empty where the source cannot be reached now (hub data sets, offline).

    A report of finished runs needs no network, so a text that cannot be had is no reason to fail.
    """
    try:
        return {problem.id: problem.problem for problem in load_problems(node.spec.problems)}
    except (OSError, SourceError):
        return {}


def _completions(store: Store, node: AnyNode, ids: set[str]) -> dict[str, str]:
    """What a model wrote for some problems (first samples); empty where the raw completions have been deleted."""
    rows = completions(store, node) or []
    return {row.problem_id: row.completion for row in rows if row.sample == 0 and row.problem_id in ids}


def _fitting(benchmarks: Sequence[Sequence[Mapping[str, Any]]], budget: int) -> int:
    """How many problems of each benchmark fit into ``budget`` bytes of completions, at least one."""
    size = 0
    longest = max((len(problems) for problems in benchmarks), default=0)
    for count in range(longest):
        rows = [problems[count] for problems in benchmarks if count < len(problems)]
        size += sum(len(answer[3].encode()) for row in rows for answer in row["answers"] if answer and answer[3])
        if size > budget:
            return max(1, count)
    return longest
