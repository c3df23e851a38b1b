"""A whole experiment as a graph: the arms of a student, and what they are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from micota.config import Config
from micota.graph.nodes import bpc, scores
from micota.records import Node


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What one arm of a comparison is measured by; ``scores`` by benchmark."""

    name: str
    scores: dict[str, Node]
    bpc: Node | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A whole experiment: the arms of one student, and the TA merged at several weights (0: before SFT, 1: after)."""

    teacher: dict[str, Node]
    curve: dict[float, dict[str, Node]]
    arms: list[Arm]

    def targets(self) -> list[Node]:
        """All nodes to be made, in the order in which to show them."""
        found = [*self.teacher.values()]
        for nodes in self.curve.values():
            found += nodes.values()
        for arm in self.arms:
            found += [*arm.scores.values(), *([arm.bpc] if arm.bpc else [])]
        return found


def comparison(arms: list[Config]) -> Comparison:
    """The experiment over configs that differ in ``data`` alone, one an arm."""
    config = arms[0]
    curve = {0.0: scores(config, "ta")}
    for weight in _curve_weights(config):
        at_weight = replace(config, merge=replace(config.merge, weight=weight, target_length_ratio=None))
        merged = scores(at_weight, "ta_merged")
        chosen = {"merge.weight": f"{weight:g}"}
        if config.merge.target_length_ratio is not None:
            chosen["merge.target_length_ratio"] = "null"
        curve[weight] = {name: _chosen(node, chosen) for name, node in merged.items()}
    curve[1.0] = scores(config, "ta_sft")
    return Comparison(
        teacher=scores(config, "teacher"),
        curve=curve,
        arms=[Arm(name=arm.data.name, scores=scores(arm, "student"), bpc=bpc(arm)) for arm in arms],
    )


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
