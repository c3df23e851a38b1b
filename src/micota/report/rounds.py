"""What each round of a training in rounds chose: how often each part of the recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from micota.artifacts.store import Store
from micota.console import WideTable, new_table
from micota.graph import Recipe, parts_of, rounds_of
from micota.graph.node import AnyNode
from micota.report.read import manifest_of
from micota.report.spent import model_of

Rounds = dict[str, list[dict[str, float]]]
"""By recipe, for each round the share of the examples from each part, by the name of the part."""


def rounds_by(store: Store, recipes: Mapping[str, Mapping[int, Recipe]]) -> Rounds:
    """Return what the rounds of each recipe chose, over all seeds; nothing for recipes that are trained at once.

    Args:
        recipes: by name and seed.
    """
    found = {}
    for name, by_seed in recipes.items():
        trainings = [rounds_of(model) for recipe in by_seed.values() if (model := model_of(recipe)) is not None]
        if trainings and len(trainings[0]) > 1:
            found[name] = [
                _shares(store, [node.inputs["data"] for node in each]) for each in zip(*trainings, strict=True)
            ]
    return found


def _shares(store: Store, data: Sequence[AnyNode]) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for node in data:
        counted = manifest_of(store, node).counts
        for label, part in parts_of(node).items():
            counts[part.name] += counted[f"from_{label}"]
    return {name: count / counts.total() for name, count in counts.items()}


def rounds_table(recipe: str, rounds: Sequence[Mapping[str, float]]) -> WideTable:
    """Return a table of the rounds of one recipe: the share of each part in percent."""
    table = new_table(f"{recipe}: examples from each part by round, in %")
    table.add_column("round", justify="right")
    for part in rounds[0]:
        table.add_column(part, justify="right")
    for index, shares in enumerate(rounds, start=1):
        table.add_row(str(index), *(f"{100 * share:.0f}" for share in shares.values()))
    return table
