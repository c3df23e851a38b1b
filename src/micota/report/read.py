"""Reading the rows of artifacts for a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from micota.analysis.lengths import Lengths, Response, each_response, lengths
from micota.artifacts.jsonl import each_jsonl, read_jsonl
from micota.artifacts.manifest import Manifest, read_manifest
from micota.artifacts.scores import each_score, read_scores
from micota.artifacts.store import Store
from micota.graph.node import AnyNode
from micota.records import COMPLETIONS, POINTS, TOKEN_SHIFTS, Completion, MergePoint, TokenShift
from micota.report.rows import Graded


def manifest_of(store: Store, node: AnyNode) -> Manifest:
    """Return the manifest of an artifact that a report needs.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    return read_manifest(store.verified(node))


def load(store: Store, nodes: Mapping[str, AnyNode]) -> Graded:
    """Return the scores of every benchmark."""
    graded = {}
    for bench, node in nodes.items():
        graded[bench] = read_scores(store.verified(node))
    return graded


def completions(store: Store, scores: AnyNode) -> Iterator[Completion] | None:
    """Yield the graded completions, or return None if the raw completions have been deleted."""
    source = scores.inputs["completions"]
    return None if store.manifest(source) is None else each_jsonl(store.verified(source) / COMPLETIONS, Completion)


def lengths_of(store: Store, nodes: Sequence[Mapping[str, AnyNode]]) -> Lengths | None:
    """Return lengths and reflection words of all answers of a model, or None if some are no longer stored."""
    every = [node for scores in nodes for node in scores.values()]
    if not every or any(completions(store, node) is None for node in every):
        return None

    def rows() -> Iterator[Response]:
        for node in every:
            yield from each_response(completions(store, node) or [], each_score(store.verified(node)))

    return lengths(rows())


def token_shifts_of(store: Store, nodes: Sequence[Mapping[str, AnyNode]]) -> list[TokenShift]:
    """Return the shifts of each token over all benchmarks and seeds."""
    by_token: dict[int, list[TokenShift]] = {}
    for node in (node for by_benchmark in nodes for node in by_benchmark.values()):
        for row in read_jsonl(store.verified(node) / TOKEN_SHIFTS, TokenShift):
            by_token.setdefault(row.token_id, []).append(row)
    return [_total(rows) for rows in by_token.values()]


def _total(rows: Sequence[TokenShift]) -> TokenShift:
    """Add up the rows of one token from several sets of answers."""
    count = sum(row.count for row in rows)
    return TokenShift(
        token_id=rows[0].token_id,
        text=rows[0].text,
        count=count,
        num_unshifted=sum(row.num_unshifted for row in rows),
        num_marginal=sum(row.num_marginal for row in rows),
        num_shifted=sum(row.num_shifted for row in rows),
        mean_rank=sum(row.mean_rank * row.count for row in rows) / count,
        max_rank=max(row.max_rank for row in rows),
    )


def sweep_points(store: Store, node: AnyNode) -> list[MergePoint]:
    """Return the merges that a merge sweep evaluated."""
    return read_jsonl(store.verified(node) / POINTS, MergePoint)
