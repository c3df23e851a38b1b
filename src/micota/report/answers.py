"""Answers to browse: each problem with the completion of every model, within a limit of bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from micota.artifacts.scores import each_score
from micota.artifacts.store import Store
from micota.data.sources import load_problems
from micota.errors import SourceError
from micota.graph.node import AnyNode
from micota.records import Completion, Score
from micota.report.read import completions
from micota.visible import visible

MAX_PROBLEMS = 100  # of each benchmark on the page
MAX_COMPLETION_BYTES = 8_000_000  # of all completions on the page, before compression


def answers(store: Store, models: Sequence[Mapping[str, AnyNode]], max_bytes: int = MAX_COMPLETION_BYTES) -> list[Any]:
    """Return the first sample of every model for the first problems of each benchmark, by benchmark.

    ``models`` are the scores of each model by benchmark. An answer is a list of outcome, prediction, tokens and
    completion, in the order of the models; it is None if the model did not get the prompt.

    Raises:
        ArtifactError: scores are missing or damaged.
    """
    names = list(dict.fromkeys(bench for scores in models for bench in scores))
    benchmarks = {bench: _problems(store, bench, models) for bench in names}
    shown = _fitting([problems for problems, _ in benchmarks.values()], max_bytes)
    return [
        {"name": bench, "total": total, "problems": problems[:shown]} for bench, (problems, total) in benchmarks.items()
    ]


def _problems(store: Store, bench: str, models: Sequence[Mapping[str, AnyNode]]) -> tuple[list[dict[str, Any]], int]:
    """Return at most ``MAX_PROBLEMS`` of a benchmark with the answers of all models, and how many there are."""
    golds: dict[str, str] = {}
    known: set[str] = set()
    first: list[dict[str, Score]] = []  # of each model, the first sample of each of these problems
    for scores in models:
        first.append({})
        for score in each_score(store.verified(scores[bench])) if bench in scores else ():
            known.add(score.problem_id)
            if len(golds) < MAX_PROBLEMS:
                golds.setdefault(score.problem_id, score.answer)
            if score.sample == 0 and score.problem_id in golds:
                first[-1][score.problem_id] = score
    ids = list(golds)
    texts = _texts(next(scores[bench] for scores in models if bench in scores), set(ids))
    texts_by_model = [_completions(store, scores[bench], set(ids)) if bench in scores else {} for scores in models]
    problems = [
        {
            "id": visible(identity),
            "problem": texts.get(identity),
            "gold": visible(golds[identity]),
            "answers": [
                _answer(score.get(identity), completion.get(identity))
                for score, completion in zip(first, texts_by_model, strict=True)
            ],
        }
        for identity in ids
    ]
    return problems, len(known)


def _answer(score: Score | None, completion: str | None) -> list[Any] | None:
    """Return an answer for the page; None if the model did not get the prompt."""
    if score is None:
        return None
    prediction, text = (None if part is None else visible(part) for part in (score.prediction, completion))
    return [score.outcome, prediction, score.num_tokens, text]


def _texts(node: AnyNode, ids: set[str]) -> dict[str, str]:
    """Return the text of some problems by id; empty if the source cannot be reached now (hub data sets, offline).

    A report of finished runs needs no network, so a missing text is no error.
    """
    try:
        return {one.id: visible(one.problem) for one in load_problems(node.spec.problems) if one.id in ids}
    except (OSError, SourceError):
        return {}


def _completions(store: Store, node: AnyNode, ids: set[str]) -> dict[str, str]:
    """Return the completions of a model for some problems (first samples); empty if they have been deleted."""
    rows: Iterable[Completion] = completions(store, node) or ()
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
