"""What each recipe cost in arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from micota.artifacts.store import Store
from micota.graph import Recipe, likelihood_of, rounds_of
from micota.graph.node import AnyNode
from micota.graph.specs import MatchedSpec, TrainSpec
from micota.report.read import manifest_of

FLOPS = "flops_"  # of metrics in manifests: what a stage counted


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Floating-point operations of a recipe, means over seeds: of training its student (with a teacher, with answers
    that the student samples, in all rounds), and of all that was made before (answers of generators, the TA, the
    likelihoods by which data are chosen)."""

    training: float
    before: float

    @property
    def total(self) -> float:
        return self.training + self.before


def spent_by(store: Store, recipes: Mapping[str, Mapping[int, Recipe]]) -> dict[str, Spent]:
    """Return what each recipe cost, where the recipes differ in more than their data or share a budget; else nothing.

    Args:
        recipes: by name and seed.
    """
    models = {
        name: [model for recipe in each.values() if (model := model_of(recipe))] for name, each in recipes.items()
    }
    specs = [model.spec for each in models.values() for model in each]
    if not any(spec.objective is not None or spec.sft.max_flops is not None for spec in specs):
        return {}
    return {name: _mean([_spent(store, model) for model in each]) for name, each in models.items() if each}


def model_of(recipe: Recipe) -> AnyNode | None:
    """Return the student that was trained on a recipe; None for one that was not trained."""
    models = [node.inputs["completions"].inputs["model"] for node in recipe.scores.values()]
    return next((model for model in models if isinstance(model.spec, TrainSpec)), None)


def max_flops_of(recipes: Mapping[str, Mapping[int, Recipe]]) -> float | None:
    """Return the budget of arithmetic (``sft.max_flops``) that all trained recipes share, over all rounds; None where
    there is none, or several."""
    models = [model for each in recipes.values() for recipe in each.values() if (model := model_of(recipe))]
    budgets = {sum(node.spec.sft.max_flops or 0 for node in rounds_of(model)) for model in models}
    rounded = {float(f"{budget:.9g}") for budget in budgets}  # a third of a budget, three times, may differ in a bit
    return next(iter(rounded)) or None if len(rounded) == 1 else None


def _spent(store: Store, model: AnyNode) -> Spent:
    trainings = {node.key: node for node in rounds_of(model)}
    needed: dict[str, AnyNode] = {}
    _add_own(model, needed)
    return Spent(
        training=sum(_flops(store, node) for node in trainings.values()),
        before=sum(_flops(store, node) for key, node in needed.items() if key not in trainings),
    )


def _add_own(node: AnyNode, needed: dict[str, AnyNode]) -> None:
    """Add a node and all that it needed. Recipes that are matched have the inputs of all, and each needs its own. A
    student that samples its answers needs only the prompts of its data."""
    if node.key in needed:
        return
    needed[node.key] = node
    inputs = {label: child for label, child in node.inputs.items() if label != "data" or _learns_answers(node)}
    if isinstance(node.spec, MatchedSpec):
        shares = node.spec.compared[node.spec.compared_as]
        labels = {label for label, share in shares.items() if share or not any(shares.values())}
        inputs = {label: child for label, child in inputs.items() if label in labels | set(map(likelihood_of, labels))}
    for child in inputs.values():
        _add_own(child, needed)


def _learns_answers(node: AnyNode) -> bool:
    """Whether a node uses the answers of its data: a training on samples of the student does for validation alone."""
    samples = isinstance(node.spec, TrainSpec) and node.spec.objective is not None and node.spec.objective.sampling
    return not samples or bool(node.spec.sft.validation_fraction)


def _flops(store: Store, node: AnyNode) -> float:
    if node.is_source or store.manifest(node) is None:
        return 0.0
    return sum(value for name, value in manifest_of(store, node).metrics.items() if name.startswith(FLOPS))


def _mean(seeds: Sequence[Spent]) -> Spent:
    return Spent(
        training=float(np.mean([each.training for each in seeds])),
        before=float(np.mean([each.before for each in seeds])),
    )
