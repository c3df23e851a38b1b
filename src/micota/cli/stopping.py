"""Experiments with a stopping rule: seeds in their order, each without the recipes that are decided before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rich.console import Console
from rich.text import Text

from micota.analysis.sequential import Look
from micota.artifacts.store import Store
from micota.config import Config
from micota.errors import ConfigError
from micota.graph import CaseConfig, Experiment, experiment
from micota.report.stopping import looks_of, stop_sentence
from micota.runtime.plan import pending


@dataclass(frozen=True)
class Progress:
    """The finished seeds of an experiment with a stopping rule, in order, and the looks at each case's recipes."""

    by_seed: Mapping[int, Experiment] = field(default_factory=dict)
    looks: Sequence[Mapping[str, Sequence[Look]]] = ()

    def going_on(self, cases: Sequence[CaseConfig]) -> list[CaseConfig]:
        """The cases without the recipes that are decided; empty if all are."""
        kept = [_without(case, found) for case, found in zip(cases, self.looks, strict=True)] if self.looks else cases
        return list(kept) if any(_compared(case) for case in kept) else []


def progress(config: Config, cases: Sequence[CaseConfig], store: Store, before: int | None = None) -> Progress:
    """The finished seeds of ``compare.stop.seeds``, up to the first that is not, or all recipes are decided.

    Args:
        before: count only the seeds that are planned before this one.

    Raises:
        ConfigError: ``before`` is not planned.
    """
    stop, baseline = config.compare.stop, config.compare.baseline
    if before is not None and before not in stop.seeds:
        raise ConfigError(f"seed={before} is none of compare.stop.seeds={stop.seeds}; accepted: one of these")
    seeds = stop.seeds if before is None else stop.seeds[: stop.seeds.index(before)]
    found = Progress()
    for seed in seeds:
        made = experiment([case.at_seed(seed) for case in found.going_on(cases)])
        if not made.cases or pending(store, made.targets()):
            break
        by_seed = {**found.by_seed, seed: made}
        comparisons = [[one.cases[index].comparison for one in by_seed.values()] for index in range(len(cases))]
        found = Progress(by_seed, [looks_of(store, of_case, baseline, stop) for of_case in comparisons])
    return found


def undecided(config: Config, cases: Sequence[CaseConfig], store: Store, console: Console) -> list[CaseConfig]:
    """The cases at the seed of the config, without recipes that are decided before it; prints which and why.

    Raises:
        ConfigError: the seed is not planned.
    """
    if not config.compare.stop.seeds:
        return list(cases)
    found = progress(config, cases, store, before=config.seed)
    for case, of_case in zip(cases, found.looks, strict=False):
        at = "".join(f"{label}: " for label in case.labels.values())
        console.print(Text(f"{at}{stop_sentence(of_case)}"))
    going_on = found.going_on(cases)
    if not going_on:
        console.print(Text(f"every recipe is decided before seed {config.seed}: nothing is left to run", "bold"))
    return going_on


def _without(case: CaseConfig, found: Mapping[str, Sequence[Look]]) -> CaseConfig:
    recipes = [recipe for recipe in case.recipes if not (recipe.name in found and found[recipe.name][-1].decision)]
    return replace(case, recipes=recipes if len(recipes) > 1 else [])


def _compared(case: CaseConfig) -> bool:
    return len(case.recipes) > 1
