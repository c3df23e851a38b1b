"""The graph of an experiment: cases, each with one student and one teacher, and the recipes compared in each case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from micota.config import MERGE_METHODS, Config
from micota.config.mergekit import MERGEKIT
from micota.graph.evaluations import bpc, rank_shifts, scores
from micota.graph.merges import at_weight
from micota.graph.node import AnyNode
from micota.graph.nodes import merge_sweep

Chosen = Mapping[str, str]  # the overrides of a case or a recipe, in addition to those of the command line


@dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    """One recipe of one case, with the config that its commands compose. ``chosen`` includes that of the case."""

    name: str
    config: Config
    chosen: Chosen = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CaseConfig:
    """One point of an experiment's axes (``labels`` by axis): its config before any recipe is chosen, and its
    recipes."""

    labels: dict[str, str] = field(default_factory=dict)
    config: Config
    chosen: Chosen = field(default_factory=dict)
    recipes: list[RecipeConfig]

    def at_seed(self, seed: int) -> CaseConfig:
        """The same case with another seed."""
        recipes = [replace(recipe, config=replace(recipe.config, seed=seed)) for recipe in self.recipes]
        return replace(self, config=replace(self.config, seed=seed), recipes=recipes)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The evaluations of one recipe; ``scores`` and ``rank_shifts`` by benchmark."""

    name: str
    scores: dict[str, AnyNode]
    bpc: AnyNode | None
    rank_shifts: dict[str, AnyNode] = field(default_factory=dict)

    def targets(self) -> list[AnyNode]:
        """All nodes to be made."""
        return [*self.scores.values(), *([self.bpc] if self.bpc else []), *self.rank_shifts.values()]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The recipes of one student, their teacher, the TA merged at several weights (0: before SFT, 1: after), the merge
    of the experiment where it has no one weight (``merged``), and merges over a grid. What is not among the
    experiment's measures is empty."""

    teacher: dict[str, AnyNode]
    curve: dict[float, dict[str, AnyNode]]
    merged: dict[str, AnyNode] = field(default_factory=dict)
    merge_sweep: AnyNode | None
    recipes: list[Recipe]

    def targets(self) -> list[AnyNode]:
        """All nodes to be made, in the order in which to show them."""
        targets = [*self.teacher.values()]
        for nodes in (*self.curve.values(), self.merged):
            targets += nodes.values()
        targets += [self.merge_sweep] if self.merge_sweep else []
        for recipe in self.recipes:
            targets += recipe.targets()
        return targets


@dataclass(frozen=True, kw_only=True)
class Case:
    """The comparison at one point of an experiment's axes."""

    labels: dict[str, str]
    student: str
    comparison: Comparison


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """All cases of an experiment. Nodes that several cases share are made once. ``configs`` has for the folder of each
    node the config of a case or recipe that needs it, which determines where and how the node is made."""

    cases: list[Case]
    configs: dict[str, Config]

    def targets(self) -> list[AnyNode]:
        """All nodes to be made, case by case."""
        return [node for case in self.cases for node in case.comparison.targets()]


def experiment(cases: Sequence[CaseConfig]) -> Experiment:
    """The graph of all cases. The command of a node has only those overrides that all cases and recipes with the node
    share: the completions of a teacher of three students name no student."""
    plain = [comparison(case) for case in cases]
    agreed: dict[tuple[str, frozenset[tuple[str, str]]], Chosen] = {}
    configs: dict[str, Config] = {}
    settled: dict[int, AnyNode] = {}  # by the object, which ``plain`` keeps alive

    def key(node: AnyNode) -> tuple[str, frozenset[tuple[str, str]]]:
        return node.folder, frozenset(node.choose.items())

    def agree(target: AnyNode, subject: CaseConfig | RecipeConfig) -> AnyNode:
        for node in target.walk():
            chosen = _chosen_for(node, subject)
            known = agreed.get(key(node), chosen)
            agreed[key(node)] = {name: value for name, value in known.items() if chosen.get(name) == value}
            configs.setdefault(node.folder, subject.config)
        return target

    def settle(node: AnyNode, subject: CaseConfig | RecipeConfig) -> AnyNode:
        if node.is_source:
            return node
        if id(node) not in settled:
            inputs = {label: settle(child, subject) for label, child in node.inputs.items()}
            settled[id(node)] = replace(node, inputs=inputs, choose={**node.choose, **agreed[key(node)]})
        return settled[id(node)]

    for case, made in zip(cases, plain, strict=True):
        _each(made, case, agree)
    return Experiment(
        cases=[
            Case(labels=case.labels, student=case.config.student.name, comparison=_each(made, case, settle))
            for case, made in zip(cases, plain, strict=True)
        ],
        configs=configs,
    )


def _chosen_for(node: AnyNode, subject: CaseConfig | RecipeConfig) -> Chosen:
    """The overrides of a case or recipe that apply to a node. Those of the data apply only to nodes of the recipe
    itself, and not to nodes of another recipe whose completions it uses."""
    is_recipe = isinstance(subject, RecipeConfig) and node.choose.get("data") == subject.config.data.chosen
    return {name: value for name, value in subject.chosen.items() if is_recipe or name.split(".")[0] != "data"}


def _each(
    made: Comparison, case: CaseConfig, change: Callable[[AnyNode, CaseConfig | RecipeConfig], AnyNode]
) -> Comparison:
    """The comparison with each target changed, given the case or recipe that needs it."""

    def each(nodes: Mapping[str, AnyNode], subject: CaseConfig | RecipeConfig = case) -> dict[str, AnyNode]:
        return {name: change(node, subject) for name, node in nodes.items()}

    recipes = [
        replace(
            recipe,
            scores=each(recipe.scores, subject),
            bpc=recipe.bpc and change(recipe.bpc, subject),
            rank_shifts=each(recipe.rank_shifts, subject),
        )
        for subject, recipe in zip(case.recipes, made.recipes, strict=True)
    ]
    return Comparison(
        teacher=each(made.teacher),
        curve={weight: each(nodes) for weight, nodes in made.curve.items()},
        merged=each(made.merged),
        merge_sweep=made.merge_sweep and change(made.merge_sweep, case),
        recipes=recipes,
    )


def comparison(case: CaseConfig) -> Comparison:
    """The evaluations of one case, with the commands of its config."""
    config, measures = case.config, case.config.compare.measures
    return Comparison(
        teacher=scores(config, "teacher") if "teacher" in measures else {},
        curve=_curve(config) if "merges" in measures else {},
        merged=scores(config, "ta_merged") if "merges" in measures and _weight_of(config) is None else {},
        merge_sweep=merge_sweep(config) if "merge_sweep" in measures else None,
        recipes=[
            Recipe(
                name=recipe.name,
                scores=scores(recipe.config, "student") if "scores" in measures else {},
                bpc=bpc(recipe.config) if "bpc" in measures else None,
                rank_shifts=rank_shifts(recipe.config) if "rank_shift" in measures else {},
            )
            for recipe in case.recipes
        ],
    )


def _curve(config: Config) -> dict[float, dict[str, AnyNode]]:
    """Scores of the TA by merge weight."""
    curve = {0.0: scores(config, "ta")}
    for weight in _curve_weights(config):
        fixed, chosen = at_weight(config, weight)
        merged = scores(fixed, "ta_merged")
        curve[weight] = {name: _chosen(node, chosen) for name, node in merged.items()}
    curve[1.0] = scores(config, "ta_sft")
    return curve


def _curve_weights(config: Config) -> list[float]:
    """Weights to compare: ``compare.merge_weights``, and ``merge.weight`` if it is one number other than 0 and 1; none
    for merges by mergekit and by methods without weights."""
    if config.merge.method == MERGEKIT or not MERGE_METHODS[config.merge.method].has_weights:
        return []
    weight = _weight_of(config)
    return sorted({*config.compare.merge_weights, *([weight] if weight not in (None, 0, 1) else [])})


def _weight_of(config: Config) -> float | None:
    """The one weight of the merge; None where it has several, none, or one that calibration chooses."""
    merge = config.merge
    is_one = merge.method != MERGEKIT and MERGE_METHODS[merge.method].has_weights and not merge.is_calibrated
    return merge.weight if is_one and not isinstance(merge.weight, list) else None


def _chosen(node: AnyNode, chosen: dict[str, str]) -> AnyNode:
    """The node with more overrides in the commands of all that depends on a merge."""
    inputs = {label: _chosen(child, chosen) for label, child in node.inputs.items()}
    touched = node.stage == "merge" or any(inputs[label] is not node.inputs[label] for label in inputs)
    return replace(node, inputs=inputs, choose={**node.choose, **chosen}) if touched else node


def unique(nodes: Iterable[AnyNode]) -> list[AnyNode]:
    """``nodes`` and all their inputs except sources, each once, inputs first."""
    ordered: dict[str, AnyNode] = {}
    for root in nodes:
        for node in root.walk():
            if not node.is_source:
                ordered.setdefault(node.folder, node)
    return list(ordered.values())
