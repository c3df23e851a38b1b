"""The published numbers of an experiment against the measured ones, and the steps of the authors' judge pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from micota.analysis.judging import JUDGE, RULE, TYPED, JudgeSteps, accepted, is_judged, judge_steps
from micota.analysis.replication import Cell
from micota.analysis.statistics import average_at_k, macro_average, problem_means
from micota.artifacts.store import Store
from micota.graph import Comparison
from micota.graph.node import AnyNode
from micota.records import Score
from micota.report.published import PublishedTable, tables_of
from micota.report.read import load
from micota.report.rows import MERGED_TITLE, Graded, samples_by_problem, ta_title

AVERAGE = "average"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The steps of the judge pipeline for one model and benchmark."""

    model: str
    benchmark: str
    steps: JudgeSteps


def published_names(comparison: Comparison) -> dict[str, str]:
    """Return the name in published tables of each model of a case, by its label here. The paper's merged TA stands for
    the TA at the one merge weight between 0 and 1, if there is exactly one."""
    names = {recipe.name: recipe.name for recipe in comparison.recipes}
    names |= {"teacher": "teacher"} if comparison.teacher else {}
    merged = [weight for weight in comparison.curve if 0 < weight < 1]
    return names | ({ta_title(merged[0]): "ta_merged"} if len(merged) == 1 else {})


def scores_by_label(comparison: Comparison) -> dict[str, Mapping[str, AnyNode]]:
    """Return the scores of each model of a case by benchmark, by the label of the model."""
    scores: dict[str, Mapping[str, AnyNode]] = {recipe.name: recipe.scores for recipe in comparison.recipes}
    scores |= {ta_title(weight): nodes for weight, nodes in comparison.curve.items()}
    scores |= {MERGED_TITLE: comparison.merged} if comparison.merged else {}
    return scores | ({"teacher": comparison.teacher} if comparison.teacher else {})


def cells(store: Store, name: str, labels: Mapping[str, str], comparisons: Sequence[Comparison]) -> list[Cell]:
    """Return every published number of a case that was measured, in the order of the tables.

    Args:
        name: of the experiment.
        labels: of the case.
        comparisons: the case at each seed.
    """
    nodes = [scores_by_label(comparison) for comparison in comparisons]
    cell_by_key: dict[tuple[str, str, str], Cell] = {}
    for table in tables_of(name):
        rows = {label: table.of(labels, known) for label, known in published_names(comparisons[0]).items()}
        for label, row in rows.items():
            if row is None or not nodes[0][label]:
                continue
            graded = [load(store, by_label[label]) for by_label in nodes]
            others = [other for known, other in rows.items() if known != label and other is not None]
            for cell in _cells(table, label, row, others, graded, nodes[0][label]):
                # An average may be in two tables; the one with more models beside it tells more.
                key = cell.recipe, cell.benchmark, cell.graded_by
                if key not in cell_by_key or len(cell.others) > len(cell_by_key[key].others):
                    cell_by_key[key] = cell
    return list(cell_by_key.values())


def _cells(
    table: PublishedTable,
    label: str,
    row: Mapping[str, float],
    others: Sequence[Mapping[str, float]],
    graded: Sequence[Graded],
    nodes: Mapping[str, AnyNode],
) -> list[Cell]:
    graders, rights = _rights(table, graded, nodes)
    estimates = {bench: (average_at_k(samples), len(samples)) for bench, samples in rights.items()}
    if table.benchmarks and set(table.benchmarks) <= set(rights):
        suite = {bench: problem_means(rights[bench]) for bench in table.benchmarks}
        estimates[AVERAGE] = macro_average(suite), sum(len(means) for means in suite.values())  # type: ignore[assignment]
    return [
        Cell(
            recipe=label,
            benchmark=column,
            published=value,
            others=tuple(other[column] for other in others),
            estimate=estimates[column][0],
            num_problems=estimates[column][1],
            graded_by=graders,
            source=table.source,
        )
        for column, value in row.items()
        if column in estimates
    ]


def _rights(
    table: PublishedTable, graded: Sequence[Graded], nodes: Mapping[str, AnyNode]
) -> tuple[str, dict[str, dict[str, list[bool]]]]:
    """Return the graders in words, and whether each sample is right by them, by benchmark and problem."""
    right: Callable[[str, Score], bool]
    if table.graded_by == RULE:
        words, right = RULE, lambda bench, score: score.graders.get(RULE) is True
    elif any(is_judged(scores) for scores in graded[0].values()):
        words = f"{RULE}, then {JUDGE}"

        def right(bench: str, score: Score) -> bool:
            return accepted(score, rule_alone=_rule_alone(nodes[bench]))
    else:  # nearer to a judge than the rule is
        words, right = f"{TYPED}, as there is no judge", lambda bench, score: score.graders.get(TYPED) is True
    changed = [
        {bench: [replace(score, correct=right(bench, score)) for score in scores] for bench, scores in seed.items()}
        for seed in graded
    ]
    return words, samples_by_problem(changed)


def judged(store: Store, comparison: Comparison) -> list[Judged]:
    """Return the steps of the judge pipeline for every model and benchmark of a case; none without a judge."""
    steps = []
    for label, nodes in scores_by_label(comparison).items():
        for bench, scores in load(store, nodes).items():
            if is_judged(scores):
                counted = judge_steps(scores, rule_alone=_rule_alone(nodes[bench]))
                steps.append(Judged(model=label, benchmark=bench, steps=counted))
    return steps


def _rule_alone(node: AnyNode) -> bool:
    """Whether the authors grade a benchmark without a judge."""
    return bool(node.spec.problems.paper_rule == "gsm8k")
