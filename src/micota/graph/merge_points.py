"""What a merge sweep makes while it runs: points, and what the student makes of the answers of a point.

They are not part of the graph, because a calibration chooses its points while it runs. They are artifacts like all
others, so that a killed sweep and another sweep find them by their keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from micota.config import ModelConfig
from micota.graph.merge_sweeps import label_of
from micota.graph.node import AnyNode, Node
from micota.graph.specs import MERGED, FilteredSpec, MergePointSpec, MergeSweepSpec, ScoresSpec, StudentSpec


def merge_order(labels: Iterable[str]) -> list[str]:
    """The labels of the inputs of a merge in order."""
    return [label for label in MERGED if label in labels]


def merge_point(
    sweep: Node[MergeSweepSpec], form: str, density: float | None, weight: Any, seed: int
) -> Node[MergePointSpec]:
    """One point of a sweep (``form`` merged), or the TA before or after SFT, of which density and weight are null.

    Args:
        weight: a number, or values by module as in ``merge.weight``.
    """
    merge = replace(sweep.spec.merge, density=density, weight=weight, seed=seed) if form == "merged" else None
    suffix = form if merge is None else f"{merge.method}-d{density:g}-w{label_of(weight)}-s{seed}"
    return Node(
        name=f"{sweep.inputs['tuned'].name}.{suffix}",
        spec=MergePointSpec(form=form, merge=merge, answers=sweep.spec.answers),
        inputs={label: sweep.inputs[label] for label in merge_order(sweep.inputs)},
        command=sweep.command,
        choose=sweep.choose,
    )


def point_data(sweep: Node[MergeSweepSpec], student: StudentSpec, point: AnyNode) -> Node[FilteredSpec]:
    """The right answers of a point as training data."""
    return _made(sweep, point.name, student.data, {"completions": point})


def point_likelihood(sweep: Node[MergeSweepSpec], student: StudentSpec, data: AnyNode, runs: ModelConfig) -> AnyNode:
    """The likelihood of a point's data under the student."""
    assert student.likelihood is not None
    model = sweep.inputs["student"]
    node = _made(sweep, f"{data.name}@{model.name}", student.likelihood, {"model": model, "data": data})
    return replace(node, runs=runs)


def point_scores(sweep: Node[MergeSweepSpec], student: StudentSpec, data: AnyNode, runs: ModelConfig) -> list[AnyNode]:
    """The student tuned on a point's data, its answers to other problems, and their scores, in the order in which they
    are made."""
    assert student.train is not None and student.answers is not None and student.scores is not None
    model = sweep.inputs["student"]
    tuned = replace(_made(sweep, f"{model.name}+{data.name}", student.train, {"model": model, "data": data}), runs=runs)
    answers = replace(_made(sweep, f"{tuned.name}@held_out", student.answers, {"model": tuned}), runs=runs)
    answers = replace(answers, benchmark="held_out")
    scores: Node[ScoresSpec] = _made(sweep, answers.name, student.scores, {"completions": answers})
    return [tuned, answers, replace(scores, benchmark="held_out")]


def _made(sweep: Node[MergeSweepSpec], name: str, spec: Any, inputs: dict[str, AnyNode]) -> Node[Any]:
    return Node(name=name, spec=spec, inputs=inputs, command=sweep.command, choose=sweep.choose)
