"""What fits into a number of GPU-hours: which recipes, seeds and samples, and what difference they could detect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from micota.analysis.statistics import minimum_detectable_effect, paired_error
from micota.artifacts.store import Store
from micota.config import Config, PipelineConfig
from micota.console import new_table, print_table
from micota.costs.context import Context, Estimate
from micota.costs.machine import machine_of
from micota.costs.power import remaining
from micota.costs.table import estimate
from micota.graph import CaseConfig, Experiment, ScoresSpec, experiment, unique
from micota.graph.node import AnyNode

SEEDS = (1, 2, 3, 5, 10)
SAMPLES = (1, 4, 16)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One way to spend GPU-hours; ``detectable`` is a difference of macro averages, from 0 to 1."""

    recipes: int
    seeds: int
    samples: int
    hours: float
    detectable: float


class Budget:
    """The costs of an experiment with fewer recipes, and with more seeds and samples."""

    def __init__(self, config: PipelineConfig, every: Sequence[CaseConfig], store: Store) -> None:
        self._store, self._cost = store, config.cost
        first = config.seed
        self._made = [experiment([case.at_seed(first + more) for case in every]) for more in range(max(SEEDS))]
        configs: dict[str, Config] = {}
        for made in reversed(self._made):
            configs |= made.configs
        self.machine = machine_of(config)
        self._context = Context(self.machine, store, config, configs)
        self._estimates: dict[str, Estimate] = {}
        self.recipes = [recipe.name for recipe in self._made[0].cases[0].comparison.recipes]

    def choices(self) -> list[Choice]:
        """Fewer recipes at one seed and sample, then all of them with more seeds and samples."""
        grid = [(count, 1, 1) for count in range(2, len(self.recipes))]
        grid += [(len(self.recipes), seeds, samples) for seeds in SEEDS for samples in SAMPLES]
        return [self.choice(*one) for one in grid]

    def choice(self, recipes: int, seeds: int, samples: int) -> Choice:
        """The first ``recipes`` recipes, with this many seeds, and samples of each answer.

        The variance of a problem's difference is that of :func:`micota.costs.power.remaining`.
        """
        nodes = unique(target for made in self._made[:seeds] for target in self._targets(made, recipes))
        seconds = sum(self._device_seconds(node, samples) for node in nodes if not self._store.is_done(node))
        problems = self._problems()
        share = remaining(self._cost.discordance, samples * seeds)
        error = paired_error(problems, dict.fromkeys(problems, share)) if problems else math.nan
        detectable = minimum_detectable_effect(error, num_comparisons=recipes - 1)
        return Choice(recipes=recipes, seeds=seeds, samples=samples, hours=seconds / 3600, detectable=detectable)

    def _targets(self, made: Experiment, recipes: int) -> list[AnyNode]:
        targets: list[AnyNode] = []
        for case in made.cases:
            comparison = case.comparison
            targets += [node for node in comparison.targets() if node.command != "evaluate"]
            targets += comparison.teacher.values()
            of_ta = (*comparison.curve.values(), comparison.merged)
            targets += [node for nodes in of_ta for node in nodes.values()]
            targets += [node for recipe in comparison.recipes[:recipes] for node in recipe.targets()]
        return targets

    def _device_seconds(self, node: AnyNode, samples: int) -> float:
        found = self._estimates.get(node.folder)
        if found is None:
            found = self._estimates[node.folder] = estimate(self._context, node)
        repeated = samples if node.command == "evaluate" and node.stage in ("generate", "grade") else 1
        return found.seconds * repeated * (found.devices if self.machine.accelerator == "gpu" else 1)

    def _problems(self) -> dict[str, int]:
        """The number of problems of each benchmark."""
        scores = [node for node in self._made[0].targets() if isinstance(node.spec, ScoresSpec)]
        return {
            str(node.benchmark): self._context.num_problems(node.spec.problems, self._context.config(node))
            for node in scores
        }


def show_budget(budget: Budget, hours: float, console: Console) -> None:
    """Print each choice, and the one that fits and detects most."""
    unit = "GPU-hours" if budget.machine.accelerator == "gpu" else "hours"
    table = new_table(f"a budget of {hours:g} {unit} on {budget.machine.label}")
    for name in ("recipes", "seeds", "samples", unit, "fits", "detectable, points"):
        table.add_column(name, justify="right", no_wrap=True)
    choices = budget.choices()
    for one in choices:
        fits = one.hours <= hours
        cells = [str(one.recipes), str(one.seeds), str(one.samples), f"{one.hours:.4g}", "yes" if fits else "no"]
        table.add_row(*cells, f"{100 * one.detectable:.1f}", style="" if fits else "dim")
    print_table(console, table)
    fitting = [one for one in choices if one.hours <= hours]
    console.print(Text(_advice(budget, fitting, choices)), soft_wrap=False)
    notes = (
        f"Recipes in this order: {', '.join(budget.recipes)}; each is compared with the first, with Bonferroni's "
        "correction. Detectable: the true difference of averages that is found in 4 of 5 repetitions. More than one "
        "sample needs evaluation.sampling.temperature above 0. Change the assumed share of problems that only one of "
        "two models solves with cost.discordance=VALUE."
    )
    console.print(Text(notes, "dim"), soft_wrap=False)


def _advice(budget: Budget, fitting: Sequence[Choice], choices: Sequence[Choice]) -> str:
    if not fitting:
        least = min(choices, key=lambda one: one.hours)
        return f"Nothing fits: {least.recipes} recipes at one seed take {least.hours:.4g} hours."
    most = max(one.recipes for one in fitting)
    best = min((one for one in fitting if one.recipes == most), key=lambda one: (one.detectable, one.hours))
    return (
        f"Of what fits, {best.recipes} of {len(budget.recipes)} recipes, seeds: {best.seeds}, samples: {best.samples} "
        f"detects the smallest difference: {100 * best.detectable:.1f} points."
    )
