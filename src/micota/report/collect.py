"""Read the artifacts of a comparison and sum them up over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from micota.artifacts import ArtifactError, Manifest, Store, read_jsonl
from micota.graph import Comparison, Experiment
from micota.records import NOT_ASKED, SCORES, Node, Score
from micota.statistics import (
    Difference,
    Discordance,
    Estimate,
    average_at_k,
    holm,
    macro_average,
    mcnemar,
    num_samples,
    paired_difference,
    problem_means,
)

Graded = dict[str, list[Score]]  # by benchmark
BASELINE = "instruct"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model of a comparison, over all seeds. Accuracies are fractions; tokens are means per answer.

    ``by_benchmark`` and ``average`` have 95 % intervals over problems; ``seed_sd`` is the standard deviation of the
    average over seeds (None for one seed). ``difference`` is to the untouched student, paired by problem; in a summary
    its p-value is Holm's over all arms. ``discordance`` is the same by benchmark, where each problem has one sample.
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
    discordance: dict[str, Discordance]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All that a report shows of one case: arms of the student, and the TA over merge weights (0: before SFT, 1:
    after). What was not measured is empty. ``labels`` say which point of the experiment's axes it is;
    ``bits_per_byte`` has the BPC of each arm's data, also where the arms have no scores."""

    name: str
    student: str
    labels: dict[str, str] = field(default_factory=dict)
    seeds: list[int]
    benchmarks: list[str]
    arms: list[Row]
    curve: dict[float, Row]
    teacher: Row | None
    bits_per_byte: dict[str, float] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The case among those of its experiment, as ``qwen1.5b`` or ``teacher QwQ-32B, qwen3b``."""
        labels = [label if axis == "student" else f"{axis} {label}" for axis, label in self.labels.items()]
        return ", ".join(labels) or self.student

    @property
    def title(self) -> str:
        """The experiment and the case, as ``micota: qwen1.5b``."""
        return f"{self.name}: {self.place}"


@dataclass(frozen=True, kw_only=True)
class CaseReport:
    """One case of an experiment: its comparisons by seed, all finished, and what they sum up to."""

    summary: Summary
    by_seed: Mapping[int, Comparison]


def case_reports(store: Store, name: str, by_seed: Mapping[int, Experiment]) -> list[CaseReport]:
    """Every case of the experiment ``name``, summed up over the seeds at which it is finished.

    Raises:
        ArtifactError: an artifact is missing or damaged.
    """
    found = []
    for index, case in enumerate(next(iter(by_seed.values())).cases):
        comparisons = {seed: experiment.cases[index].comparison for seed, experiment in by_seed.items()}
        summary = summarise(store, name, case.student, comparisons, case.labels)
        found.append(CaseReport(summary=summary, by_seed=comparisons))
    return found


def summarise(
    store: Store,
    name: str,
    student: str,
    by_seed: Mapping[int, Comparison],
    labels: Mapping[str, str] | None = None,
) -> Summary:
    """Sum up finished comparisons that differ in their seed alone.

    Raises:
        ArtifactError: an artifact is missing or damaged.
    """
    comparisons = list(by_seed.values())
    first = comparisons[0]
    curve = {weight: row(f"{weight:g}", [load(store, c.curve[weight]) for c in comparisons]) for weight in first.curve}
    scored = [*(arm.scores for arm in first.arms), *first.curve.values(), first.teacher]
    measured = {
        arm.name: [manifest_of(store, node) for c in comparisons if (node := c.arms[index].bpc) is not None]
        for index, arm in enumerate(first.arms)
    }
    return Summary(
        name=name,
        student=student,
        labels=dict(labels or {}),
        seeds=sorted(by_seed),
        benchmarks=list(next((scores for scores in scored if scores), {})),
        arms=_arms(store, comparisons, measured) if first.arms and first.arms[0].scores else [],
        curve=curve,
        teacher=row("teacher", [load(store, c.teacher) for c in comparisons]) if first.teacher else None,
        bits_per_byte={arm: _mean(manifests, "bits_per_byte") for arm, manifests in measured.items() if manifests},
    )


def _arms(store: Store, comparisons: Sequence[Comparison], measured: Mapping[str, Sequence[Manifest]]) -> list[Row]:
    """The arms' rows, compared with the untouched student where it is one of them."""
    baselines = [load(store, arm.scores) for c in comparisons for arm in c.arms if arm.name == BASELINE]
    arms = []
    for index, arm in enumerate(comparisons[0].arms):
        graded = [load(store, c.arms[index].scores) for c in comparisons]
        theirs = baselines if baselines and arm.name != BASELINE else None
        arms.append(row(arm.name, graded, theirs, measured[arm.name]))
    return adjusted(arms)


def row(
    name: str,
    graded: Sequence[Graded],
    baselines: Sequence[Graded] | None = None,
    measures: Sequence[Manifest] = (),
) -> Row:
    """One line of the table from the scores of each seed."""
    samples = samples_by_problem(graded)
    means = mean_by_problem(graded)
    theirs = mean_by_problem(baselines) if baselines else None
    binary = all(num_samples(rights) == 1 for rights in samples.values())
    scores = [score for seed in graded for rows in seed.values() for score in rows]
    averages = [macro_average(mean_by_problem([seed])).value for seed in graded]
    outcomes: dict[str, int] = defaultdict(int)
    for score in scores:
        outcomes[score.outcome] += 1
    return Row(
        name=name,
        by_benchmark={bench: average_at_k(rights) for bench, rights in samples.items()},
        average=macro_average(means),
        seed_sd=float(np.std(averages, ddof=1)) if len(averages) > 1 else None,
        num_tokens=float(np.mean([score.num_tokens for score in scores])),
        tokens=[score.num_tokens for score in scores],
        outcomes=dict(outcomes),
        bits_per_byte=_mean(measures, "bits_per_byte") if measures else None,
        data_tokens=_mean(measures, "num_tokens") if measures else None,
        difference=paired_difference(means, theirs) if theirs else None,
        discordance={name: mcnemar(means[name], theirs[name]) for name in means} if theirs and binary else {},
    )


def _mean(manifests: Sequence[Manifest], metric: str) -> float:
    return float(np.mean([manifest.metrics[metric] for manifest in manifests]))


def adjusted(arms: Sequence[Row]) -> list[Row]:
    """Arms with the p-values of their differences corrected for there being so many."""
    p_values = holm({arm.name: arm.difference.p_value for arm in arms if arm.difference is not None})
    return [
        arm if arm.difference is None else replace(arm, difference=replace(arm.difference, p_value=p_values[arm.name]))
        for arm in arms
    ]


def mean_by_problem(graded: Sequence[Graded]) -> dict[str, dict[str, float]]:
    """Of each benchmark the share of right samples of each problem, over samples and seeds.

    Raises:
        PairingError: problems differ in their number of samples.
    """
    return {bench: problem_means(samples) for bench, samples in samples_by_problem(graded).items()}


def samples_by_problem(graded: Sequence[Graded]) -> dict[str, dict[str, list[bool]]]:
    """Of each benchmark whether each sample of each problem was right, over all seeds.

    Intervals then treat problems as the sample, so that more seeds do not pretend to be more problems. A problem that
    was never asked, because it does not fit the model's context, counts as wrong in every sample.
    """
    found: dict[str, dict[str, list[bool]]] = {bench: defaultdict(list) for bench in graded[0]}
    for seed in graded:
        for bench, scores in seed.items():
            by_problem: dict[str, list[Score]] = defaultdict(list)
            for score in scores:
                by_problem[score.problem_id].append(score)
            most = max(len(rows) for rows in by_problem.values())
            for identity, rows in by_problem.items():
                asked = rows[0].finish_reason != NOT_ASKED
                found[bench][identity] += [row.correct is True for row in rows] if asked else [False] * most
    return found


def load(store: Store, nodes: Mapping[str, Node]) -> Graded:
    """The scores of every benchmark."""
    found = {}
    for bench, node in nodes.items():
        manifest_of(store, node)
        found[bench] = read_jsonl(store.path(node) / SCORES, Score)
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
