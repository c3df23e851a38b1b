"""The description of a node in W&B: the config and tags of its run, the names of its metrics, its artifact.

All of it comes from the node alone. An experiment may compare students or teachers, so the tasks of one experiment can
have other settings than its config.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from micota.graph.models import source_of
from micota.graph.node import AnyNode, Node, SpecT
from micota.graph.specs import DataSpec, MergekitSpec, MergeSpec, ScoresSpec, TrainSpec, parts_of
from micota.graph.stage import stage_of

MAX_TAG, MAX_NAME = 64, 100  # characters; W&B refuses longer tags, and names of artifacts above 128


def describe(nodes: Sequence[AnyNode]) -> dict[str, Any]:
    """Return the config of the run of one task: names and numbers to filter, group and plot runs by.

    ``model`` is the model that is made or evaluated, ``student`` the model before its SFT, ``recipe`` its data.
    ``generator`` is the model that generated the data, ``teacher`` the untrained model at the root of the generators.
    ``sft`` and ``merge`` are the settings of the nearest training and merge upstream. Entries that do not apply are
    absent.
    """
    node = headline(nodes)
    made = subject(node)
    config: dict[str, Any] = {"stage": node.stage}
    if "data" in node.choose:
        config["recipe"] = node.choose["data"]
    if made.kind in ("models", "source"):
        config["model"] = made.name
    if "role" in node.choose:
        config["role"] = node.choose["role"]
    elif "data" in node.choose and node.command in ("train", "evaluate"):
        config |= {"role": "student", "student": source_of(made).name}
    data = nearest(made, DataSpec)
    generators = list(_generators(data)) if data is not None else []
    if generators:
        config["generator"] = "+".join(sorted({generator.name for generator in generators}))
        config["teacher"] = "+".join(sorted({name for generator in generators for name in _teachers(generator)}))
    train, merge = nearest(made, TrainSpec), nearest(made, MergeSpec)
    if train is not None:
        config["sft"] = asdict(train.spec.sft)
    if (by_mergekit := nearest(made, MergekitSpec)) is not None:
        config["merge"] = {"method": by_mergekit.spec.method, "config": by_mergekit.spec.config}
    elif merge is not None:
        config["merge"] = {name: getattr(merge.spec, name) for name in ("method", "density", "weight")}
    return config


def subject(node: AnyNode) -> AnyNode:
    """Return the node that a run is named after: for scores the evaluated model, else the node itself."""
    return node.inputs["completions"].inputs["model"] if isinstance(node.spec, ScoresSpec) else node


def headline(nodes: Sequence[AnyNode]) -> AnyNode:
    """Return the main node of a task: its scores, else its last node."""
    return next((node for node in nodes if isinstance(node.spec, ScoresSpec)), nodes[-1])


def tags(described: dict[str, Any], seed: int) -> list[str]:
    """Return the tags of a run, as ``student:qwen7b`` and ``recipe:micota``."""
    values = {name: described.get(name) for name in ("student", "recipe", "teacher")}
    values |= {"merge": described.get("merge", {}).get("method"), "seed": str(seed)}
    return [f"{name}:{value}"[:MAX_TAG] for name, value in values.items() if value is not None]


def nearest(node: AnyNode, spec: type[SpecT]) -> Node[SpecT] | None:
    """Return the node with such a spec that is the fewest steps upstream, ``node`` itself included, or None."""
    level, seen = [node], {node.key}
    while level:
        for candidate in level:
            if isinstance(candidate.spec, spec):
                return candidate
        children = {child.key: child for candidate in level for child in candidate.inputs.values()}
        level = [child for key, child in children.items() if key not in seen]
        seen |= children.keys()
    return None


def _generators(data: AnyNode) -> Iterator[AnyNode]:
    """Yield the models that generated a recipe's data."""
    if "completions" in data.inputs:
        yield data.inputs["completions"].inputs["model"]
    for part in parts_of(data).values():
        yield from _generators(part)


def _teachers(generator: AnyNode) -> Iterator[str]:
    """Yield the names of the untrained models at the root of a generator's training data; its name if it is
    untrained."""
    data = nearest(generator, DataSpec)
    if data is None:
        yield generator.name
        return
    for former in _generators(data):
        yield from _teachers(former)


def section(node: AnyNode) -> str:
    """Return the section of a node's metrics: ``eval/gsm8k``, ``train``."""
    name = stage_of(node).section
    return name if node.benchmark is None else f"{name}/{node.benchmark}"


def artifact_name(node: AnyNode) -> str:
    """Return name and key in the characters that W&B allows, and not too many; the key tells names apart."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '.', node.name)[:MAX_NAME]}-{node.key}"
