"""What the comparison of an experiment can detect before it is run: power by benchmark, samples and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from micota.analysis.statistics import minimum_detectable_effect, paired_error
from micota.artifacts.scores import read_scores
from micota.artifacts.store import Store
from micota.config import Config
from micota.console import new_table, print_table
from micota.costs.context import Context
from micota.costs.machine import machine_of
from micota.graph import Experiment, Recipe, ScoresSpec
from micota.graph.node import AnyNode

SEEDS = (1, 3, 5)


@dataclass(frozen=True, kw_only=True)
class PlannedTests:
    """The tests of one case: every recipe against the baseline.

    ``problems`` and ``samples`` are numbers by benchmark, ``discordance`` is the share of problems that one answer of
    only one of two models solves. It is assumed except for ``measured`` benchmarks.
    """

    baseline: str
    num_comparisons: int
    problems: Mapping[str, int]
    samples: Mapping[str, int]
    discordance: Mapping[str, float]
    measured: Sequence[str] = field(default=())
    labels: Sequence[str] = field(default=())

    def detectable(self, seeds: int, benchmarks: Sequence[str] | None = None) -> float:
        """The true difference of the average over benchmarks that is found in 4 of 5 repetitions, as a fraction."""
        names = list(self.problems) if benchmarks is None else benchmarks
        shares = {name: remaining(self.discordance[name], seeds * self.samples[name]) for name in names}
        error = paired_error({name: self.problems[name] for name in names}, shares)
        return minimum_detectable_effect(error, num_comparisons=self.num_comparisons)


def remaining(discordance: float, num_answers: int) -> float:
    """The variance of a problem's difference over several answers of each model.

    Half of that of single answers, q, is taken to be of the problems and half of sampling, of which m answers leave
    1/m: q (1 + 1/m) / 2.
    """
    return discordance * (1 + 1 / num_answers) / 2


def planned_tests(config: Config, store: Store, made: Experiment) -> list[PlannedTests]:
    """The tests of each case, those that are equal once with the labels of all their cases."""
    context = Context(machine_of(config), store, config, made.configs)
    found: dict[str, tuple[PlannedTests, list[str]]] = {}
    for case in made.cases:
        baseline = config.compare.baseline
        of_baseline = [recipe for recipe in case.comparison.recipes if recipe.name == baseline and recipe.scores]
        others = [recipe for recipe in case.comparison.recipes if recipe.name != baseline and recipe.scores]
        if of_baseline and others:
            tests = _tests(context, of_baseline[0], others)
            found.setdefault(repr(tests), (tests, []))[1].append(", ".join(case.labels.values()))
    several = len(found) > 1
    return [PlannedTests(**{**vars(tests), "labels": labels if several else ()}) for tests, labels in found.values()]


def _tests(context: Context, baseline: Recipe, others: Sequence[Recipe]) -> PlannedTests:
    nodes = baseline.scores
    measured = {
        name: share for name in nodes if (share := _measured(context.store, baseline, others, name)) is not None
    }
    return PlannedTests(
        baseline=baseline.name,
        num_comparisons=len(others),
        problems={name: _num_problems(context, node) for name, node in nodes.items()},
        samples={name: node.inputs["completions"].spec.sampling.num_samples for name, node in nodes.items()},
        discordance=dict.fromkeys(nodes, context.cost.discordance) | measured,
        measured=list(measured),
    )


def _num_problems(context: Context, node: AnyNode) -> int:
    assert isinstance(node.spec, ScoresSpec)
    return context.num_problems(node.spec.problems, context.config(node))


def _measured(store: Store, baseline: Recipe, others: Sequence[Recipe], benchmark: str) -> float | None:
    """The mean discordance of the baseline and those recipes that are finished already; None without."""
    nodes = [recipe.scores[benchmark] for recipe in (baseline, *others)]
    if not store.is_done(nodes[0]):
        return None
    first = _shares(store, nodes[0])
    pairs = [(first, _shares(store, node)) for node in nodes[1:] if store.is_done(node)]
    shares = [
        sum(a[name] * (1 - b[name]) + b[name] * (1 - a[name]) for name in a) / len(a)
        for a, b in pairs
        if a.keys() == b.keys()
    ]
    return sum(shares) / len(shares) if shares else None


def _shares(store: Store, node: AnyNode) -> dict[str, float]:
    """The share of right answers to each problem."""
    rights: dict[str, list[bool]] = {}
    for score in read_scores(store.verified(node)):
        rights.setdefault(score.problem_id, []).append(score.correct is True)
    return {name: sum(values) / len(values) for name, values in rights.items()}


def show_power(every: Sequence[PlannedTests], console: Console) -> None:
    """Print the detectable differences of each case."""
    for tests in every:
        at = f" ({'; '.join(tests.labels)})" if tests.labels else ""
        recipes = "1 recipe" if tests.num_comparisons == 1 else f"each of {tests.num_comparisons} recipes"
        table = new_table(f"differences that can be detected, in points: {recipes} against {tests.baseline}{at}")
        table.add_column("benchmark", no_wrap=True)
        for name in ("problems", "samples", "discordant, %", *(f"{n} seed{'s' if n > 1 else ''}" for n in SEEDS)):
            table.add_column(name, justify="right", no_wrap=True)
        for name, count in tests.problems.items():
            share = f"{100 * tests.discordance[name]:.0f}{'' if name in tests.measured else ' assumed'}"
            table.add_row(name, str(count), str(tests.samples[name]), share, *_points(tests, [name]))
        if len(tests.problems) > 1:
            table.add_row("average", *[""] * 3, *_points(tests, None), style="bold")
        print_table(console, table)
    correction = "" if every[0].num_comparisons == 1 else " after Bonferroni's correction"
    note = (
        f"A true difference of this size is found in 4 of 5 repetitions{correction}. Discordant: solved by only one of "
        "two models, measured where results are there; change the assumption with cost.discordance=VALUE."
    )
    console.print(Text(note, "dim"), soft_wrap=False)


def _points(tests: PlannedTests, benchmarks: Sequence[str] | None) -> list[str]:
    return [f"{100 * tests.detectable(seeds, benchmarks):.1f}" for seeds in SEEDS]
