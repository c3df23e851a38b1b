"""What the student makes of the right answers of one merge, by the ordinary stages and as ordinary artifacts."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from micota.artifacts.manifest import Manifest
from micota.graph import MergeSweepSpec
from micota.graph.merge_points import point_data, point_likelihood, point_scores
from micota.graph.node import AnyNode
from micota.runtime.execute import perform
from micota.runtime.plan import Task
from micota.runtime.work import Work


def student_value(work: Work[MergeSweepSpec], point: AnyNode) -> float | None:
    """The bits per byte of a point's right answers under the student, or the accuracy of the student tuned on them;
    None for a point without right answers."""
    sweep, runs = work.node, work.config.student
    student = sweep.spec.student
    assert student is not None
    data = point_data(sweep, student, point)
    if not _made(work, data).counts["examples"]:
        return None
    if student.likelihood is not None:
        return _made(work, point_likelihood(sweep, student, data, runs)).metrics["bits_per_byte"]
    manifests = [_made(work, node) for node in point_scores(sweep, student, data, runs)]
    return manifests[-1].metrics["accuracy"]


def _made(work: Work[Any], node: AnyNode) -> Manifest:
    """The manifest of a node, which is made if it is missing. Its bars would hide that of the sweep."""
    if (manifest := work.store.manifest(node)) is not None:
        return manifest
    task = Task(node.command, dict(node.choose), [node])
    [manifest] = perform(work.config, work.store, task, Console(quiet=True), run=work.run)
    return manifest
