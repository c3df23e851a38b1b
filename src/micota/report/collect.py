"""Read the artifacts of an experiment and summarise them, case by case, over seeds.

Notebooks start from ``case_reports``: each case has a ``summary`` of plain numbers, and its nodes by seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from micota.analysis.learnability import Trial
from micota.analysis.replication import Cell
from micota.analysis.sequential import Look
from micota.analysis.statistics import macro_average
from micota.artifacts.manifest import Manifest
from micota.artifacts.store import Store
from micota.config.stopping import StopConfig
from micota.graph import Comparison, Experiment, Recipe
from micota.graph.models import source_of
from micota.graph.node import AnyNode
from micota.graph.specs import MatchedSpec, ScoresSpec, weights_of
from micota.records import MergePoint, TokenShift
from micota.report.audits import Audit, audits_of
from micota.report.forecasts import Checked, checked
from micota.report.published import tables_of
from micota.report.read import lengths_of, load, manifest_of, sweep_points, token_shifts_of
from micota.report.replication import Judged, cells, judged, published_names
from micota.report.rounds import Rounds, rounds_by
from micota.report.rows import MERGED_TITLE, Row, adjusted, mean_by_problem, mean_metric, row, ta_title
from micota.report.spent import Spent, max_flops_of, spent_by
from micota.report.stopping import looks_of

BASELINE = "instruct"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All numbers of one case for a report: recipes of the student, the TA over merge weights (0: before SFT, 1:
    after), and its merge where that has no one weight. Fields that were not measured are empty.

    ``labels`` are the values of the case on the experiment's axes. ``bits_per_byte`` is the BPC of each recipe's data,
    also for recipes without scores. ``published`` has the published values of each model (in percent by benchmark,
    ``average`` and ``gap_to_instruct``; ``bpc``), ``source`` their table. ``mixes`` is as in :func:`mixes`. ``trials``
    have the gain of each recipe at each seed and the properties of its data, ``token_shifts`` the tokens of each recipe
    over all benchmarks, ``points`` the merges of a merge sweep, ``cells`` the published numbers beside the measured
    ones, ``judged`` the steps of the judge pipeline at the first seed (empty without a judge),
    ``student_path`` where the student before SFT is, ``audits`` the repeated evaluations of its models, ``looks`` what
    a stopping rule saw of each recipe (empty without), ``forecasts`` what was expected of each beside its gain,
    ``spent`` what each recipe cost where ways to train differ, ``max_flops`` the budget that all share, ``rounds`` what
    the rounds of a recipe chose.
    """

    name: str
    student: str
    labels: dict[str, str] = field(default_factory=dict)
    seeds: list[int]
    benchmarks: list[str]
    baseline: str = BASELINE
    recipes: list[Row]
    curve: dict[float, Row]
    merged: Row | None = None
    teacher: Row | None
    bits_per_byte: dict[str, float] = field(default_factory=dict)
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    source: str = ""
    mixes: dict[str, dict[str, float]] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    token_shifts: dict[str, list[TokenShift]] = field(default_factory=dict)
    points: list[MergePoint] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    student_path: str = ""
    audits: list[Audit] = field(default_factory=list)
    looks: Mapping[str, Sequence[Look]] = field(default_factory=dict)
    forecasts: list[Checked] = field(default_factory=list)
    spent: dict[str, Spent] = field(default_factory=dict)
    max_flops: float | None = None
    rounds: Rounds = field(default_factory=dict)

    @property
    def ta_rows(self) -> list[tuple[str, Row]]:
        """The rows of the TA by label, in the order in which to show them."""
        rows = [(ta_title(weight), row) for weight, row in sorted(self.curve.items())]
        return rows if self.merged is None else [*rows, (MERGED_TITLE, self.merged)]

    @property
    def case_label(self) -> str:
        """The label of the case in its experiment, as ``QwQ-32B, qwen3b``; a bare number gets the name of its axis, as
        ``max_flops 1e10``."""
        names = {axis: axis.rpartition(".")[2] for axis in self.labels}
        labels = [label if label[:1].isalpha() else f"{names[axis]} {label}" for axis, label in self.labels.items()]
        return ", ".join(labels) or self.student

    @property
    def title(self) -> str:
        """The experiment and the case, as ``micota: qwen1.5b``."""
        return f"{self.name}: {self.case_label}"


@dataclass(frozen=True, kw_only=True)
class CaseReport:
    """One case of an experiment: its finished comparisons by seed, and their summary."""

    summary: Summary
    by_seed: Mapping[int, Comparison]


def case_reports(
    store: Store,
    name: str,
    by_seed: Mapping[int, Experiment],
    baseline: str = BASELINE,
    stop: StopConfig | None = None,
) -> list[CaseReport]:
    """Return every case of the experiment ``name``, summarised over its finished seeds.

    Recipes are tested against the one that is called ``baseline``, by the looks of a stopping rule if there is one.

    Raises:
        ArtifactError: an artifact is missing or damaged.
    """
    reports = []
    for index, case in enumerate(next(iter(by_seed.values())).cases):
        comparisons = {seed: experiment.cases[index].comparison for seed, experiment in by_seed.items()}
        summary = summarise(store, name, case.student, comparisons, case.labels, baseline, stop)
        reports.append(CaseReport(summary=summary, by_seed=comparisons))
    return reports


def summarise(
    store: Store,
    name: str,
    student: str,
    by_seed: Mapping[int, Comparison],
    labels: Mapping[str, str] | None = None,
    baseline: str = BASELINE,
    stop: StopConfig | None = None,
) -> Summary:
    """Summarise finished comparisons that differ in their seed alone; with a stopping rule, later ones may have fewer
    recipes.

    Raises:
        ArtifactError: an artifact is missing or damaged.
    """
    comparisons = list(by_seed.values())
    first = comparisons[0]
    looks = looks_of(store, comparisons, baseline, stop) if stop is not None and stop.seeds else {}
    scored = [*(recipe.scores for recipe in first.recipes), *first.curve.values(), first.teacher]
    published = {label: values for label, values in _published(name, labels or {}, first).items() if values}
    sources = [". ".join(filter(None, (table.source, table.note))) for table in tables_of(name)]
    merge_sweeps = {made.merge_sweep.folder: made.merge_sweep for made in comparisons if made.merge_sweep is not None}
    trials = _trials(store, by_seed)
    return Summary(
        name=name,
        student=student,
        labels=dict(labels or {}),
        seeds=sorted(by_seed),
        benchmarks=list(next((scores for scores in scored if scores), {})),
        baseline=baseline,
        recipes=adjusted(_recipes(store, comparisons, baseline), looks, stop.spending if stop else "")
        if first.recipes and first.recipes[0].scores
        else [],
        curve={weight: _row(store, f"{weight:g}", [c.curve[weight] for c in comparisons]) for weight in first.curve},
        merged=_row(store, MERGED_TITLE, [c.merged for c in comparisons]) if first.merged else None,
        teacher=_row(store, "teacher", [c.teacher for c in comparisons]) if first.teacher else None,
        bits_per_byte={
            name: mean_metric(measured, "bits_per_byte") for name, measured in _bpc(store, comparisons).items()
        },
        published=published,
        source="; ".join(sources),
        mixes=mixes(first),
        trials=trials,
        token_shifts={
            name: token_shifts_of(store, [recipe.rank_shifts for recipe in each.values()])
            for name, each in by_name(by_seed).items()
            if next(iter(each.values())).rank_shifts
        },
        points=[point for node in merge_sweeps.values() for point in sweep_points(store, node)],
        cells=cells(store, name, labels or {}, comparisons),
        judged=judged(store, first),
        student_path=_student_path(first),
        audits=audits_of(store, comparisons),
        looks=looks,
        forecasts=checked(store, by_seed, trials),
        spent=spent_by(store, by_name(by_seed)),
        max_flops=max_flops_of(by_name(by_seed)),
        rounds=rounds_by(store, by_name(by_seed)),
    )


def by_name(by_seed: Mapping[int, Comparison]) -> dict[str, dict[int, Recipe]]:
    """Return each recipe at those seeds at which it ran."""
    recipes: dict[str, dict[int, Recipe]] = {}
    for seed, made in by_seed.items():
        for recipe in made.recipes:
            recipes.setdefault(recipe.name, {})[seed] = recipe
    return recipes


def _published(name: str, labels: Mapping[str, str], comparison: Comparison) -> dict[str, dict[str, float]]:
    """Return the papers' values of each model, by the label of the model here."""
    by_label: dict[str, dict[str, float]] = {}
    for table in tables_of(name):
        for label, known in published_names(comparison).items():
            # Of two tables with one number, the first counts.
            by_label[label] = (table.of(labels, known) or {}) | by_label.get(label, {})
    return by_label


def mixes(comparison: Comparison) -> dict[str, dict[str, float]]:
    """Return the share of each mixture's first part in a recipe's data, by the name of that part and by recipe.

    Recipes that are one part alone count too. A curve has at least three points; shorter ones are left out.
    """
    data = {recipe.name: node for recipe in comparison.recipes if (node := _data_of(recipe)) is not None}
    curves: dict[str, dict[str, float]] = {}
    for name, node in data.items():
        weights = weights_of(node.spec)
        if len(weights) != 2:
            continue
        first, second = weights
        curve = curves.setdefault(first, {})
        curve[name] = weights[first]
        for part, share in ((first, 1.0), (second, 0.0)):
            generated = _generated(node.inputs[part])
            curve |= {alone: share for alone, other in data.items() if generated and _generated(other) == generated}
    return {part: curve for part, curve in curves.items() if len(curve) > 2}


def _generated(data: AnyNode) -> str | None:
    """Return the key of the completions that training data are chosen from; None for data of several generators."""
    if isinstance(data.spec, MatchedSpec):
        parts = [name for name, share in data.spec.compared[data.spec.compared_as].items() if share]
        return _generated(data.inputs[parts[0]]) if len(parts) == 1 else None
    completions = data.inputs.get("completions")
    return None if completions is None else completions.key


def _student_path(comparison: Comparison) -> str:
    """Return the path of the student before SFT; empty if no recipe has scores with it."""
    for recipe in sorted(comparison.recipes, key=lambda recipe: recipe.name != BASELINE):
        for node in recipe.scores.values():
            return str(source_of(node.inputs["completions"].inputs["model"]).spec.path)
    return ""


def _data_of(recipe: Recipe) -> AnyNode | None:
    """Return the training data of a recipe's student; None for the student before SFT."""
    for node in [*recipe.scores.values(), *([recipe.bpc] if recipe.bpc else [])]:
        model = node.inputs["completions"].inputs["model"] if isinstance(node.spec, ScoresSpec) else node
        return model.inputs.get("data")
    return None


def _row(store: Store, name: str, nodes: Sequence[Mapping[str, AnyNode]], **compared: Any) -> Row:
    """Return the row of one model from its scores at each seed, with the lengths of its answers."""
    made = row(name, [load(store, scores) for scores in nodes], **compared)
    return replace(made, lengths=lengths_of(store, nodes))


def _recipes(store: Store, comparisons: Sequence[Comparison], baseline: str) -> list[Row]:
    """Return the recipes' rows, each compared with the baseline at its own seeds if that is one of them."""
    measured = _bpc(store, comparisons)
    baselines = [load(store, recipe.scores) for c in comparisons for recipe in c.recipes if recipe.name == baseline]
    recipes = []
    for name, each in by_name(dict(enumerate(comparisons))).items():
        nodes = [recipe.scores for recipe in each.values()]
        compared = [baselines[number] for number in each] if baselines and name != baseline else None
        recipes.append(_row(store, name, nodes, baselines=compared, bpc=measured.get(name, [])))
    return recipes


def _bpc(store: Store, comparisons: Sequence[Comparison]) -> dict[str, list[Manifest]]:
    """Return the manifests of the BPC of each recipe's data, one per seed."""
    manifests: dict[str, list[Manifest]] = {}
    for recipe in (recipe for comparison in comparisons for recipe in comparison.recipes):
        if recipe.bpc is not None:
            manifests.setdefault(recipe.name, []).append(manifest_of(store, recipe.bpc))
    return manifests


def _trials(store: Store, by_seed: Mapping[int, Comparison]) -> list[Trial]:
    """Return for each recipe at each seed the properties of its data, and its gain on the student before SFT."""
    trials = []
    for seed, comparison in by_seed.items():
        averages = {
            recipe.name: macro_average(mean_by_problem([load(store, recipe.scores)])).value
            for recipe in comparison.recipes
            if recipe.scores
        }
        for recipe in comparison.recipes:
            if recipe.bpc is not None and recipe.name in averages and BASELINE in averages:
                known = manifest_of(store, recipe.bpc).metrics
                gain = averages[recipe.name] - averages[BASELINE]
                trials.append(Trial(recipe=recipe.name, seed=seed, known=known, gain=gain))
    return trials
