"""Read the artifacts of an experiment and sum them up, case by case, over seeds.

``case_reports`` is where a notebook starts: each case has a ``summary`` of plain numbers, and its nodes by seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from micota.artifacts import Manifest, Store
from micota.findings.learnability import Trial
from micota.graph import Arm, Comparison, Experiment
from micota.records import Node, ProbePoint, TokenShift
from micota.report.published import PublishedTable, table_of
from micota.report.reading import lengths_of, load, manifest_of, probe_points, token_shifts_of
from micota.report.rows import Row, adjusted, mean_by_problem, mean_metric, row, ta_title
from micota.statistics import macro_average

BASELINE = "instruct"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All that a report shows of one case: arms of the student, and the TA over merge weights (0: before SFT, 1:
    after). What was not measured is empty. ``labels`` say which point of the experiment's axes it is;
    ``bits_per_byte`` has the BPC of each arm's data, also where the arms have no scores; ``published`` is
    what a paper reports of each model (in percent by benchmark, ``average`` and ``gap_to_instruct``; ``bpc``) and
    ``source`` where; ``mixes`` as in :func:`mixes`; ``trials`` have the gain of
    each arm at each seed beside what was known of its data, ``token_shifts`` each arm's tokens over all benchmarks,
    ``points`` the merges of a probe."""

    name: str
    student: str
    labels: dict[str, str] = field(default_factory=dict)
    seeds: list[int]
    benchmarks: list[str]
    arms: list[Row]
    curve: dict[float, Row]
    teacher: Row | None
    bits_per_byte: dict[str, float] = field(default_factory=dict)
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    source: str = ""
    mixes: dict[str, dict[str, float]] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    token_shifts: dict[str, list[TokenShift]] = field(default_factory=dict)
    points: list[ProbePoint] = field(default_factory=list)

    @property
    def place(self) -> str:
        """The case among those of its experiment, as ``QwQ-32B, qwen3b``; a bare number says of which axis it is."""
        labels = [label if label[:1].isalpha() else f"{axis} {label}" for axis, label in self.labels.items()]
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
    scored = [*(arm.scores for arm in first.arms), *first.curve.values(), first.teacher]
    table = table_of(name)
    probes = {made.probe.folder: made.probe for made in comparisons if made.probe is not None}
    return Summary(
        name=name,
        student=student,
        labels=dict(labels or {}),
        seeds=sorted(by_seed),
        benchmarks=list(next((scores for scores in scored if scores), {})),
        arms=_arms(store, comparisons) if first.arms and first.arms[0].scores else [],
        curve={weight: _row(store, f"{weight:g}", [c.curve[weight] for c in comparisons]) for weight in first.curve},
        teacher=_row(store, "teacher", [c.teacher for c in comparisons]) if first.teacher else None,
        bits_per_byte={
            name: mean_metric(measured, "bits_per_byte") for name, measured in _bpc(store, comparisons).items()
        },
        published=_published(table, labels or {}, first) if table else {},
        source=". ".join(filter(None, (table.source, table.note))) if table else "",
        mixes=mixes(first),
        trials=_trials(store, by_seed),
        token_shifts={
            arm.name: token_shifts_of(store, [c.arms[index].rank_shifts for c in comparisons])
            for index, arm in enumerate(first.arms)
            if arm.rank_shifts
        },
        points=[point for node in probes.values() for point in probe_points(store, node)],
    )


def _published(table: PublishedTable, labels: Mapping[str, str], comparison: Comparison) -> dict[str, dict[str, float]]:
    """What the paper has of each model, by what the model is called here. Its merged TA is ours where there is one."""
    named = {arm.name: arm.name for arm in comparison.arms} | ({"teacher": "teacher"} if comparison.teacher else {})
    merged = [weight for weight in comparison.curve if 0 < weight < 1]
    if len(merged) == 1:
        named[ta_title(merged[0])] = "ta_merged"
    return {label: found for label, arm in named.items() if (found := table.of(labels, arm)) is not None}


def mixes(comparison: Comparison) -> dict[str, dict[str, float]]:
    """The share of each mixture's first part in an arm's data, by the name of that part and by arm: also of the arms
    that are one part alone. What has fewer than three points is no curve and is left out."""
    data = {arm.name: node for arm in comparison.arms if (node := _data_of(arm)) is not None}
    found: dict[str, dict[str, float]] = {}
    for name, node in data.items():
        if len(node.spec.weights) != 2:
            continue
        first, second = node.spec.weights
        curve = found.setdefault(first, {})
        curve[name] = node.spec.weights[first]
        for part, share in ((first, 1.0), (second, 0.0)):
            author = node.inputs[part].inputs.get("completions")
            curve |= {alone: share for alone, own in data.items() if author and own.inputs.get("completions") == author}
    return {part: curve for part, curve in found.items() if len(curve) > 2}


def _data_of(arm: Arm) -> Node | None:
    """What the student of an arm was trained on; None for the untouched one."""
    for node in [*arm.scores.values(), *([arm.bpc] if arm.bpc else [])]:
        model = node.inputs["completions"].inputs["model"] if node.stage == "grade" else node
        return model.inputs.get("data")
    return None


def _row(store: Store, name: str, nodes: Sequence[Mapping[str, Node]], **compared: Any) -> Row:
    """One model from its scores at each seed, with what the texts of its answers say."""
    made = row(name, [load(store, scores) for scores in nodes], **compared)
    return replace(made, lengths=lengths_of(store, nodes))


def _arms(store: Store, comparisons: Sequence[Comparison]) -> list[Row]:
    """The arms' rows, compared with the untouched student where it is one of them."""
    measured = _bpc(store, comparisons)
    baselines = [load(store, arm.scores) for c in comparisons for arm in c.arms if arm.name == BASELINE]
    arms = []
    for index, arm in enumerate(comparisons[0].arms):
        nodes = [c.arms[index].scores for c in comparisons]
        theirs = baselines if baselines and arm.name != BASELINE else None
        arms.append(_row(store, arm.name, nodes, baselines=theirs, measures=measured.get(arm.name, [])))
    return adjusted(arms)


def _bpc(store: Store, comparisons: Sequence[Comparison]) -> dict[str, list[Manifest]]:
    """By arm, what was measured of its data at each seed."""
    found: dict[str, list[Manifest]] = {}
    for arm in (arm for comparison in comparisons for arm in comparison.arms):
        if arm.bpc is not None:
            found.setdefault(arm.name, []).append(manifest_of(store, arm.bpc))
    return found


def _trials(store: Store, by_seed: Mapping[int, Comparison]) -> list[Trial]:
    """Of each arm at each seed what is known of its data before training, and its gain on the untouched student."""
    found = []
    for seed, comparison in by_seed.items():
        averages = {
            arm.name: macro_average(mean_by_problem([load(store, arm.scores)])).value
            for arm in comparison.arms
            if arm.scores
        }
        for arm in comparison.arms:
            if arm.bpc is not None and arm.name in averages and BASELINE in averages:
                known = manifest_of(store, arm.bpc).metrics
                gain = averages[arm.name] - averages[BASELINE]
                found.append(Trial(arm=arm.name, seed=seed, known=known, gain=gain))
    return found
