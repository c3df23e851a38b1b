"""Which recipes of a case are decided after some of the planned seeds, from their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from micota.analysis.intervals import ALPHA
from micota.analysis.sequential import Deltas, Look, looks
from micota.analysis.statistics import align
from micota.artifacts.store import Store
from micota.config.stopping import StopConfig
from micota.graph import Comparison
from micota.report.read import load
from micota.report.rows import mean_by_problem


def looks_of(store: Store, comparisons: Sequence[Comparison], baseline: str, stop: StopConfig) -> dict[str, list[Look]]:
    """Return the looks at each recipe of a case after its finished seeds, up to the one that decides.

    Args:
        comparisons: the case at its finished seeds, in the order of ``stop.seeds``; the first has all recipes.
        baseline: the recipe that every other one is compared with.

    Raises:
        ArtifactError: scores are missing or damaged.
    """
    names = [recipe.name for recipe in comparisons[0].recipes if recipe.name != baseline and recipe.scores]
    return {
        name: looks(
            _deltas(store, comparisons, name, baseline),
            len(stop.seeds),
            ALPHA / len(names),
            stop.spending,
            stop.futility,
        )
        for name in names
    }


def _deltas(store: Store, comparisons: Sequence[Comparison], name: str, baseline: str) -> list[Deltas]:
    """The paired differences of a recipe and the baseline, at each seed of the recipe."""
    found: list[Deltas] = []
    for made in comparisons:
        scores = {recipe.name: recipe.scores for recipe in made.recipes}
        if name in scores:
            first, second = (mean_by_problem([load(store, scores[one])]) for one in (name, baseline))
            found.append(align(first, second))
    return found


def stop_sentence(looks_by_recipe: Mapping[str, Sequence[Look]]) -> str:
    """Return what each recipe's last look says; empty without looks."""
    if not looks_by_recipe:
        return ""
    planned = next(iter(looks_by_recipe.values()))[0].planned
    parts = [f"{name} {_state(found[-1])}" for name, found in looks_by_recipe.items()]
    return f"Looks after each of {planned} planned seeds: {'; '.join(parts)}."


def _seeds(look: Look) -> str:
    return "1 seed" if look.seeds == 1 else f"{look.seeds} seeds"


def _state(look: Look) -> str:
    size = f"(z {look.z:+.2f}, boundary {look.boundary:.2f})"
    if look.decision == "futile":
        return f"ended after {_seeds(look)}: a decision is unlikely {size}"
    if look.decision:
        return f"is decided after {_seeds(look)}: {look.decision} {size}"
    after = "is not distinguishable after all" if look.seeds == look.planned else f"goes on after {look.seeds}"
    return f"{after} {size}"
