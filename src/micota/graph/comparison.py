"""A whole experiment as a graph: cases (one student, one teacher ... each), in each the arms that are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from micota.config import Config
from micota.graph.measures import bpc, rank_shifts, scores
from micota.graph.nodes import probe
from micota.records import Node

Chosen = Mapping[str, str]  # overrides, beside those of the command line, that lead to the config of a case or an arm


@dataclass(frozen=True, kw_only=True)
class ArmConfig:
    """One arm of one case: its config as its own doors compose it. ``chosen`` includes that of the case."""

    name: str
    config: Config
    chosen: Chosen = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CaseConfig:
    """One point of an experiment's axes (``labels`` by axis): its config before any arm is chosen, and its arms."""

    labels: dict[str, str] = field(default_factory=dict)
    config: Config
    chosen: Chosen = field(default_factory=dict)
    arms: list[ArmConfig]

    def at_seed(self, seed: int) -> CaseConfig:
        """The same case with another seed."""
        arms = [replace(arm, config=replace(arm.config, seed=seed)) for arm in self.arms]
        return replace(self, config=replace(self.config, seed=seed), arms=arms)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What one arm is measured by; ``scores`` and ``rank_shifts`` by benchmark."""

    name: str
    scores: dict[str, Node]
    bpc: Node | None
    rank_shifts: dict[str, Node] = field(default_factory=dict)

    def targets(self) -> list[Node]:
        """All nodes to be made."""
        return [*self.scores.values(), *([self.bpc] if self.bpc else []), *self.rank_shifts.values()]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The arms of one student, their teacher, the TA merged at several weights (0: before SFT, 1: after), and merges
    over a grid. What is not among the experiment's measures is empty."""

    teacher: dict[str, Node]
    curve: dict[float, dict[str, Node]]
    probe: Node | None
    arms: list[Arm]

    def targets(self) -> list[Node]:
        """All nodes to be made, in the order in which to show them."""
        found = [*self.teacher.values()]
        for nodes in self.curve.values():
            found += nodes.values()
        found += [self.probe] if self.probe else []
        for arm in self.arms:
            found += arm.targets()
        return found


@dataclass(frozen=True, kw_only=True)
class Case:
    """The comparison at one point of an experiment's axes."""

    labels: dict[str, str]
    student: str
    comparison: Comparison


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """All cases of an experiment. What several have in common is made once. ``configs`` has for the folder of each
    node the config of a case or arm that needs it: where and how it is to be made."""

    cases: list[Case]
    configs: dict[str, Config]

    def targets(self) -> list[Node]:
        """All nodes to be made, case by case."""
        return [node for case in self.cases for node in case.comparison.targets()]


def experiment(cases: Sequence[CaseConfig]) -> Experiment:
    """The graph of all cases. In the command of a node stand only those overrides in which all that need it agree: a
    teacher's completions, shared by three students, name none of them."""
    plain = [comparison(case) for case in cases]
    agreed: dict[tuple[str, frozenset[tuple[str, str]]], Chosen] = {}
    configs: dict[str, Config] = {}

    def key(node: Node) -> tuple[str, frozenset[tuple[str, str]]]:
        return node.folder, frozenset(node.choose.items())

    def agree(target: Node, place: CaseConfig | ArmConfig) -> Node:
        for node in target.walk():
            own = _own(node, place)
            known = agreed.get(key(node), own)
            agreed[key(node)] = {name: value for name, value in known.items() if own.get(name) == value}
            configs.setdefault(node.folder, place.config)
        return target

    def settle(node: Node, place: CaseConfig | ArmConfig) -> Node:
        inputs = {label: settle(child, place) for label, child in node.inputs.items()}
        return node if node.is_source else replace(node, inputs=inputs, choose={**node.choose, **agreed[key(node)]})

    for case, made in zip(cases, plain, strict=True):
        _each(made, case, agree)
    return Experiment(
        cases=[
            Case(labels=case.labels, student=case.config.student.name, comparison=_each(made, case, settle))
            for case, made in zip(cases, plain, strict=True)
        ],
        configs=configs,
    )


def _own(node: Node, place: CaseConfig | ArmConfig) -> Chosen:
    """The overrides of a case or arm that concern a node: those of its data only where it is of that arm, and not of
    another whose completions the arm is made from."""
    is_arm = isinstance(place, ArmConfig) and node.choose.get("data") == place.config.data.name
    return {name: value for name, value in place.chosen.items() if is_arm or name.split(".")[0] != "data"}


def _each(made: Comparison, case: CaseConfig, change: Callable[[Node, CaseConfig | ArmConfig], Node]) -> Comparison:
    """The comparison with each target changed, given the case or arm that needs it."""

    def each(nodes: Mapping[str, Node], place: CaseConfig | ArmConfig = case) -> dict[str, Node]:
        return {name: change(node, place) for name, node in nodes.items()}

    arms = [
        replace(
            arm,
            scores=each(arm.scores, own),
            bpc=arm.bpc and change(arm.bpc, own),
            rank_shifts=each(arm.rank_shifts, own),
        )
        for own, arm in zip(case.arms, made.arms, strict=True)
    ]
    return Comparison(
        teacher=each(made.teacher),
        curve={weight: each(nodes) for weight, nodes in made.curve.items()},
        probe=made.probe and change(made.probe, case),
        arms=arms,
    )


def comparison(case: CaseConfig) -> Comparison:
    """What is measured of one case, with the commands of its own config."""
    config, measures = case.config, case.config.compare.measures
    return Comparison(
        teacher=scores(config, "teacher") if "teacher" in measures else {},
        curve=_curve(config) if "merges" in measures else {},
        probe=probe(config) if "probe" in measures else None,
        arms=[
            Arm(
                name=arm.name,
                scores=scores(arm.config, "student") if "scores" in measures else {},
                bpc=bpc(arm.config) if "bpc" in measures else None,
                rank_shifts=rank_shifts(arm.config) if "rank_shift" in measures else {},
            )
            for arm in case.arms
        ],
    )


def _curve(config: Config) -> dict[float, dict[str, Node]]:
    """Scores of the TA by merge weight."""
    curve = {0.0: scores(config, "ta")}
    for weight in _curve_weights(config):
        at_weight = replace(config, merge=replace(config.merge, weight=weight, target_length_ratio=None))
        merged = scores(at_weight, "ta_merged")
        chosen = {"merge.weight": f"{weight:g}"}
        if config.merge.target_length_ratio is not None:
            chosen["merge.target_length_ratio"] = "null"
        curve[weight] = {name: _chosen(node, chosen) for name, node in merged.items()}
    curve[1.0] = scores(config, "ta_sft")
    return curve


def _curve_weights(config: Config) -> list[float]:
    """Weights to compare: those asked for, and that of the experiment where it is one number."""
    own = config.merge.weight
    known = config.merge.target_length_ratio is None and not isinstance(own, list) and 0 < own < 1
    return sorted({*config.compare.merge_weights, *([own] if known else [])})


def _chosen(node: Node, chosen: dict[str, str]) -> Node:
    """The node with more overrides in the commands of all that depends on a merge."""
    inputs = {label: _chosen(child, chosen) for label, child in node.inputs.items()}
    touched = node.stage == "merge" or any(inputs[label] is not node.inputs[label] for label in inputs)
    return replace(node, inputs=inputs, choose={**node.choose, **chosen}) if touched else node


def unique(nodes: Iterable[Node]) -> list[Node]:
    """All nodes below ``nodes`` that are ours to make, each once, inputs before what is made from them."""
    ordered: dict[str, Node] = {}
    for root in nodes:
        for node in root.walk():
            if not node.is_source:
                ordered.setdefault(node.folder, node)
    return list(ordered.values())
