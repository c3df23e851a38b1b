"""What a node says of itself in W&B: the run that makes it, the names of its numbers, the artifact that it is there.

All of it comes from the node alone. An experiment may compare students or teachers, so the config that it started from
need not be that of each of its tasks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from micota.records import Node

# Where the metrics of a stage stand in a run; of answers and scores there are several in a run, one for each benchmark.
SECTIONS = {"generate": "generation", "select": "data", "grade": "eval", "measure": "bpc"}
MAX_TAG = 64  # characters; W&B refuses longer ones


def describe(nodes: Sequence[Node]) -> dict[str, Any]:
    """What the nodes of one task are about, as the config of their run: words and numbers that runs can be filtered,
    grouped and plotted by. What does not apply is left out.

    ``model`` is what is made or asked, ``student`` the model that was tuned to be it, ``arm`` its data, ``author`` who
    wrote these and ``teacher`` whose writing all goes back to; ``sft`` and ``merge`` are the settings of the training
    and of the merge that are nearest upstream.
    """
    node = headline(nodes)
    made = subject(node)
    found: dict[str, Any] = {"stage": node.stage}
    if "data" in node.choose:
        found["arm"] = node.choose["data"]
    if made.kind in ("models", "source"):
        found["model"] = made.name
    if "role" in node.choose:
        found["role"] = node.choose["role"]
    elif "data" in node.choose and node.door in ("train", "evaluate"):
        found |= {"role": "student", "student": made.inputs.get("model", made).name}
    data = nearest(made, "select")
    authors = list(_authors(data)) if data is not None else []
    if authors:
        found["author"] = "+".join(sorted({author.name for author in authors}))
        found["teacher"] = "+".join(sorted({name for author in authors for name in _teachers(author)}))
    train, merge = nearest(made, "train"), nearest(made, "merge")
    if train is not None:
        found["sft"] = asdict(train.spec.sft)
    if merge is not None:
        found["merge"] = {name: getattr(merge.spec, name) for name in ("method", "density", "weight")}
    return found


def subject(node: Node) -> Node:
    """What a run is named after: of scores the model that answered, else the node itself."""
    return node.inputs["completions"].inputs["model"] if node.stage == "grade" else node


def headline(nodes: Sequence[Node]) -> Node:
    """The node that a task is named after: its scores, or what it makes last."""
    return next((node for node in nodes if node.stage == "grade"), nodes[-1])


def tags(described: dict[str, Any], seed: int) -> list[str]:
    """``student:qwen7b``, ``arm:micota`` and so on: what people filter by."""
    words = {name: described.get(name) for name in ("student", "arm", "teacher")}
    words |= {"merge": described.get("merge", {}).get("method"), "seed": str(seed)}
    return [f"{name}:{value}"[:MAX_TAG] for name, value in words.items() if value is not None]


def nearest(node: Node, stage: str) -> Node | None:
    """The node of a stage that is the fewest steps upstream, ``node`` itself included."""
    level = [node]
    while level:
        for candidate in level:
            if candidate.stage == stage:
                return candidate
        level = [child for candidate in level for child in candidate.inputs.values()]
    return None


def _authors(data: Node) -> Iterator[Node]:
    """The models that wrote an arm's data."""
    for label, child in data.inputs.items():
        if label == "completions":
            yield child.inputs["model"]
        elif child.kind == "data":
            yield from _authors(child)


def _teachers(author: Node) -> Iterator[str]:
    """The names of the untrained models at the root of what an author learnt from; its own, if it is untrained."""
    data = nearest(author, "select")
    if data is None:
        yield author.name
        return
    for former in _authors(data):
        yield from _teachers(former)


def section(node: Node) -> str:
    """Where the metrics of a node stand: ``eval/gsm8k``, ``train``."""
    name = SECTIONS.get(node.stage, node.stage)
    return f"{name}/{node.name.rpartition('@')[2]}" if node.stage in ("generate", "grade") else name


def artifact_name(node: Node) -> str:
    """Name and key in the characters that W&B allows."""
    return re.sub(r"[^\w.-]", ".", f"{node.name}-{node.key}")
