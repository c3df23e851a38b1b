"""Read the artifacts of a comparison and sum them up over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from micota.artifacts import ArtifactError, Manifest, Store, read_jsonl
from micota.graph import Comparison
from micota.records import Node, Score
from micota.statistics import Difference, Estimate, macro_average, paired_difference, wilson

Graded = dict[str, list[Score]]  # by benchmark
BASELINE = "instruct"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model of a comparison, over all seeds. Accuracies are fractions; tokens are means per answer.

    ``by_benchmark`` and ``average`` have 95 % intervals over problems; ``seed_sd`` is the standard deviation of the
    average over seeds (None for one seed). ``difference`` is to the untouched student, paired by problem.
    """

    name: str
    by_benchmark: dict[str, Estimate]
    average: Estimate
    seed_sd: float | None
    num_tokens: float
    tokens: list[int]
    outcomes: dict[str, int]
    bits_per_byte: float | None
    data_tokens: float | None
    difference: Difference | None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All that a report shows: arms of the student, and the TA over merge weights (0: before SFT, 1: after)."""

    name: str
    student: str
    seeds: list[int]
    benchmarks: list[str]
    arms: list[Row]
    curve: dict[float, Row]
    teacher: Row


def summarise(store: Store, name: str, student: str, by_seed: Mapping[int, Comparison]) -> Summary:
    """Sum up finished comparisons that differ in their seed alone.

    Raises:
        ArtifactError: an artifact is missing or damaged.
    """
    comparisons = list(by_seed.values())
    first = comparisons[0]
    baselines = [load(store, arm.scores) for c in comparisons for arm in c.arms if arm.name == BASELINE]
    arms = []
    for index, arm in enumerate(first.arms):
        graded = [load(store, c.arms[index].scores) for c in comparisons]
        measures = [measure for c in comparisons if (measure := c.arms[index].bpc) is not None]
        arms.append(
            row(
                arm.name,
                graded,
                baselines if baselines and arm.name != BASELINE else None,
                [manifest_of(store, measure) for measure in measures],
            )
        )
    curve = {weight: row(f"{weight:g}", [load(store, c.curve[weight]) for c in comparisons]) for weight in first.curve}
    return Summary(
        name=name,
        student=student,
        seeds=sorted(by_seed),
        benchmarks=list(first.teacher),
        arms=arms,
        curve=curve,
        teacher=row("teacher", [load(store, c.teacher) for c in comparisons]),
    )


def row(
    name: str,
    graded: Sequence[Graded],
    baselines: Sequence[Graded] | None = None,
    measures: Sequence[Manifest] = (),
) -> Row:
    """One line of the table from the scores of each seed."""
    by_problem = mean_by_problem(graded)
    scores = [score for seed in graded for rows in seed.values() for score in rows]
    averages = [macro_average(mean_by_problem([seed])).value for seed in graded]
    outcomes: dict[str, int] = defaultdict(int)
    for score in scores:
        outcomes[score.outcome] += 1
    return Row(
        name=name,
        by_benchmark={bench: wilson(sum(values), len(values)) for bench, values in by_problem.items()},
        average=macro_average(by_problem),
        seed_sd=float(np.std(averages, ddof=1)) if len(averages) > 1 else None,
        num_tokens=float(np.mean([score.num_tokens for score in scores])),
        tokens=[score.num_tokens for score in scores],
        outcomes=dict(outcomes),
        bits_per_byte=float(np.mean([m.metrics["bits_per_byte"] for m in measures])) if measures else None,
        data_tokens=float(np.mean([m.metrics["num_tokens"] for m in measures])) if measures else None,
        difference=paired_difference(by_problem, mean_by_problem(baselines)) if baselines else None,
    )


def mean_by_problem(graded: Sequence[Graded]) -> dict[str, list[float]]:
    """Of each benchmark the share of right samples of each problem, over samples and seeds, in the order of the first.

    Intervals then treat problems as the sample, so that more seeds do not pretend to be more problems.
    """
    means: dict[str, list[float]] = {}
    for bench, rows in graded[0].items():
        shares: dict[str, list[bool]] = {score.problem_id: [] for score in rows}
        for seed in graded:
            for score in seed[bench]:
                shares[score.problem_id].append(score.correct is True)
        means[bench] = [float(np.mean(values)) for values in shares.values()]
    return means


def load(store: Store, nodes: Mapping[str, Node]) -> Graded:
    """The scores of every benchmark."""
    found = {}
    for bench, node in nodes.items():
        manifest_of(store, node)
        found[bench] = read_jsonl(store.path(node) / "scores.jsonl", Score)
    return found


def manifest_of(store: Store, node: Node) -> Manifest:
    """The manifest of an artifact that a report needs.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    manifest = store.manifest(node)
    if manifest is None:
        raise ArtifactError(f"{store.path(node)} is missing; run pipeline.py again")
    return manifest
