"""Read the artifacts of an experiment and sum them up, case by case, over seeds.

``case_reports`` is where a notebook starts: each case has a ``summary`` of plain numbers, and its nodes by seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from micota.analysis.learnability import Trial
from micota.analysis.statistics import macro_average
from micota.artifacts.store import Manifest, Store
from micota.graph import Comparison, Experiment, Recipe
from micota.graph.node import AnyNode
from micota.graph.specs import ScoresSpec, weights_of
from micota.records import MergePoint, TokenShift
from micota.report.published import PublishedTable, table_of
from micota.report.read import lengths_of, load, manifest_of, sweep_points, token_shifts_of
from micota.report.rows import Row, adjusted, mean_by_problem, mean_metric, row, ta_title

BASELINE = "instruct"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All that a report shows of one case: recipes of the student, and the TA over merge weights (0: before SFT, 1:
    after). What was not measured is empty. ``labels`` say which point of the experiment's axes it is; ``bits_per_byte``
    has the BPC of each recipe's data, also where the recipes have no scores; ``published`` is what a paper reports of
    each model (in percent by benchmark, ``average`` and ``gap_to_instruct``; ``bpc``) and ``source`` where; ``mixes``
    as in :func:`mixes`; ``trials`` have the gain of each recipe at each seed beside what was known of its data,
    ``token_shifts`` each recipe's tokens over all benchmarks, ``points`` the merges of a merge sweep."""

    name: str
    student: str
    labels: dict[str, str] = field(default_factory=dict)
    seeds: list[int]
    benchmarks: list[str]
    recipes: list[Row]
    curve: dict[float, Row]
    teacher: Row | None
    bits_per_byte: dict[str, float] = field(default_factory=dict)
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    source: str = ""
    mixes: dict[str, dict[str, float]] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    token_shifts: dict[str, list[TokenShift]] = field(default_factory=dict)
    points: list[MergePoint] = field(default_factory=list)

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
    scored = [*(recipe.scores for recipe in first.recipes), *first.curve.values(), first.teacher]
    table = table_of(name)
    merge_sweeps = {made.merge_sweep.folder: made.merge_sweep for made in comparisons if made.merge_sweep is not None}
    return Summary(
        name=name,
        student=student,
        labels=dict(labels or {}),
        seeds=sorted(by_seed),
        benchmarks=list(next((scores for scores in scored if scores), {})),
        recipes=_recipes(store, comparisons) if first.recipes and first.recipes[0].scores else [],
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
            recipe.name: token_shifts_of(store, [c.recipes[index].rank_shifts for c in comparisons])
            for index, recipe in enumerate(first.recipes)
            if recipe.rank_shifts
        },
        points=[point for node in merge_sweeps.values() for point in sweep_points(store, node)],
    )


def _published(table: PublishedTable, labels: Mapping[str, str], comparison: Comparison) -> dict[str, dict[str, float]]:
    """What the paper has of each model, by what the model is called here. Its merged TA is ours where there is one."""
    named = {recipe.name: recipe.name for recipe in comparison.recipes} | (
        {"teacher": "teacher"} if comparison.teacher else {}
    )
    merged = [weight for weight in comparison.curve if 0 < weight < 1]
    if len(merged) == 1:
        named[ta_title(merged[0])] = "ta_merged"
    return {label: found for label, recipe in named.items() if (found := table.of(labels, recipe)) is not None}


def mixes(comparison: Comparison) -> dict[str, dict[str, float]]:
    """The share of each mixture's first part in a recipe's data, by the name of that part and by recipe: also of the
    recipes that are one part alone. What has fewer than three points is no curve and is left out."""
    data = {recipe.name: node for recipe in comparison.recipes if (node := _data_of(recipe)) is not None}
    found: dict[str, dict[str, float]] = {}
    for name, node in data.items():
        weights = weights_of(node.spec)
        if len(weights) != 2:
            continue
        first, second = weights
        curve = found.setdefault(first, {})
        curve[name] = weights[first]
        for part, share in ((first, 1.0), (second, 0.0)):
            generator = node.inputs[part].inputs.get("completions")
            curve |= {
                alone: share for alone, own in data.items() if generator and own.inputs.get("completions") == generator
            }
    return {part: curve for part, curve in found.items() if len(curve) > 2}


def _data_of(recipe: Recipe) -> AnyNode | None:
    """What the student of a recipe was trained on; None for the untouched one."""
    for node in [*recipe.scores.values(), *([recipe.bpc] if recipe.bpc else [])]:
        model = node.inputs["completions"].inputs["model"] if isinstance(node.spec, ScoresSpec) else node
        return model.inputs.get("data")
    return None


def _row(store: Store, name: str, nodes: Sequence[Mapping[str, AnyNode]], **compared: Any) -> Row:
    """One model from its scores at each seed, with what the texts of its answers say."""
    made = row(name, [load(store, scores) for scores in nodes], **compared)
    return replace(made, lengths=lengths_of(store, nodes))


def _recipes(store: Store, comparisons: Sequence[Comparison]) -> list[Row]:
    """The recipes' rows, compared with the student before SFT where it is one of them."""
    measured = _bpc(store, comparisons)
    baselines = [load(store, recipe.scores) for c in comparisons for recipe in c.recipes if recipe.name == BASELINE]
    recipes = []
    for index, recipe in enumerate(comparisons[0].recipes):
        nodes = [c.recipes[index].scores for c in comparisons]
        theirs = baselines if baselines and recipe.name != BASELINE else None
        recipes.append(_row(store, recipe.name, nodes, baselines=theirs, measures=measured.get(recipe.name, [])))
    return adjusted(recipes)


def _bpc(store: Store, comparisons: Sequence[Comparison]) -> dict[str, list[Manifest]]:
    """By recipe, what was measured of its data at each seed."""
    found: dict[str, list[Manifest]] = {}
    for recipe in (recipe for comparison in comparisons for recipe in comparison.recipes):
        if recipe.bpc is not None:
            found.setdefault(recipe.name, []).append(manifest_of(store, recipe.bpc))
    return found


def _trials(store: Store, by_seed: Mapping[int, Comparison]) -> list[Trial]:
    """Of each recipe at each seed what is known of its data before training, and its gain on the student before SFT."""
    found = []
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
                found.append(Trial(recipe=recipe.name, seed=seed, known=known, gain=gain))
    return found
