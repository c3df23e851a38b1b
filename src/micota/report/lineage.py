"""Where each number comes from: all artifacts below it, with what made them, as the page shows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from micota.artifacts.store import Manifest, Store
from micota.config import Call, command_line, without_keys
from micota.errors import ArtifactError
from micota.graph.node import AnyNode
from micota.graph.stage import stage_of

Steps = dict[str, dict[str, Any]]  # by folder


def trace(steps: Steps, store: Store, roots: Iterable[AnyNode], call: Call, seed: int) -> None:
    """Add ``roots`` and all they were made from to ``steps``.

    A step has its place in the graph, what it did in words, its settings, the command that makes it again, and of its
    manifest what says how it came to be (null where the artifact is no longer stored). ``call`` is the
    command that the experiment ran with.
    """
    for node in roots:
        if node.folder not in steps:
            overrides = [*without_keys(call.overrides, {"seed"}), f"seed={seed}"]
            steps[node.folder] = _step(store, node, replace(call, overrides=overrides))
            trace(steps, store, node.inputs.values(), call, seed)


def _step(store: Store, node: AnyNode, call: Call) -> dict[str, Any]:
    manifest = None if node.is_source else _manifest(store, node)
    return {
        "label": stage_of(node).label,
        "name": node.name,
        "key": node.key,
        "says": stage_of(node).describe(node, {} if manifest is None else {**manifest.counts, **manifest.metrics}),
        "inputs": {label: child.folder for label, child in node.inputs.items()},
        "settings": asdict(node.spec),
        "command": None if node.is_source else command_line(call, node.command, node.choose),
        "manifest": None if manifest is None else _made(manifest),
    }


def _manifest(store: Store, node: AnyNode) -> Manifest | None:
    """None where it is gone or damaged: a number stays true when what it was made from has been cleared away."""
    try:
        return store.manifest(node)
    except ArtifactError:
        return None


def _made(manifest: Manifest) -> dict[str, Any]:
    """What a manifest says beside the settings and the inputs."""
    names = ("seed", "counts", "metrics", "commit", "versions", "hardware", "seconds", "finished_at")
    return {name: getattr(manifest, name) for name in names}
