"""What a node says of itself in W&B: the run that makes it, the names of its numbers, the artifact that it is there.

All of it comes from the node alone. An experiment may compare students or teachers, so the config that it started from
need not be that of each of its tasks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from micota.graph.node import AnyNode, Node, SpecT
from micota.graph.specs import DataSpec, MergeSpec, ScoresSpec, TrainSpec
from micota.graph.stage import stage_of

MAX_TAG = 64  # characters; W&B refuses longer ones


def describe(nodes: Sequence[AnyNode]) -> dict[str, Any]:
    """What the nodes of one task are about, as the config of their run: words and numbers that runs can be filtered,
    grouped and plotted by. What does not apply is left out.

    ``model`` is what is made or asked, ``student`` the model that was tuned to be it, ``recipe`` its data,
    ``generator`` who wrote these and ``teacher`` whose writing all goes back to; ``sft`` and ``merge`` are the settings
    of the training and of the merge that are nearest upstream.
    """
    node = headline(nodes)
    made = subject(node)
    found: dict[str, Any] = {"stage": node.stage}
    if "data" in node.choose:
        found["recipe"] = node.choose["data"]
    if made.kind in ("models", "source"):
        found["model"] = made.name
    if "role" in node.choose:
        found["role"] = node.choose["role"]
    elif "data" in node.choose and node.command in ("train", "evaluate"):
        found |= {"role": "student", "student": made.inputs.get("model", made).name}
    data = nearest(made, DataSpec)
    generators = list(_generators(data)) if data is not None else []
    if generators:
        found["generator"] = "+".join(sorted({generator.name for generator in generators}))
        found["teacher"] = "+".join(sorted({name for generator in generators for name in _teachers(generator)}))
    train, merge = nearest(made, TrainSpec), nearest(made, MergeSpec)
    if train is not None:
        found["sft"] = asdict(train.spec.sft)
    if merge is not None:
        found["merge"] = {name: getattr(merge.spec, name) for name in ("method", "density", "weight")}
    return found


def subject(node: AnyNode) -> AnyNode:
    """What a run is named after: of scores the model that answered, else the node itself."""
    return node.inputs["completions"].inputs["model"] if isinstance(node.spec, ScoresSpec) else node


def headline(nodes: Sequence[AnyNode]) -> AnyNode:
    """The node that a task is named after: its scores, or what it makes last."""
    return next((node for node in nodes if isinstance(node.spec, ScoresSpec)), nodes[-1])


def tags(described: dict[str, Any], seed: int) -> list[str]:
    """``student:qwen7b``, ``recipe:micota`` and so on: what people filter by."""
    words = {name: described.get(name) for name in ("student", "recipe", "teacher")}
    words |= {"merge": described.get("merge", {}).get("method"), "seed": str(seed)}
    return [f"{name}:{value}"[:MAX_TAG] for name, value in words.items() if value is not None]


def nearest(node: AnyNode, spec: type[SpecT]) -> Node[SpecT] | None:
    """The node with such a spec that is the fewest steps upstream, ``node`` itself included."""
    level = [node]
    while level:
        for candidate in level:
            if isinstance(candidate.spec, spec):
                return candidate
        level = [child for candidate in level for child in candidate.inputs.values()]
    return None


def _generators(data: AnyNode) -> Iterator[AnyNode]:
    """The models that wrote a recipe's data."""
    for label, child in data.inputs.items():
        if label == "completions":
            yield child.inputs["model"]
        elif isinstance(child.spec, DataSpec):
            yield from _generators(child)


def _teachers(generator: AnyNode) -> Iterator[str]:
    """The names of the untrained models at the root of what a generator learnt from; its own, if it is untrained."""
    data = nearest(generator, DataSpec)
    if data is None:
        yield generator.name
        return
    for former in _generators(data):
        yield from _teachers(former)


def section(node: AnyNode) -> str:
    """Where the metrics of a node stand: ``eval/gsm8k``, ``train``."""
    name = stage_of(node).section
    return name if node.benchmark is None else f"{name}/{node.benchmark}"


def artifact_name(node: AnyNode) -> str:
    """Name and key in the characters that W&B allows."""
    return re.sub(r"[^\w.-]", ".", f"{node.name}-{node.key}")
