"""Lineage of each number for the page: all artifacts below it, with their settings and commands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from micota.artifacts.manifest import Manifest
from micota.artifacts.store import Store
from micota.config import Call, command_line, without_keys
from micota.errors import ArtifactError
from micota.graph.node import AnyNode
from micota.graph.stage import stage_of

Steps = dict[str, dict[str, Any]]  # by folder


def trace(steps: Steps, store: Store, roots: Iterable[AnyNode], call: Call, seed: int) -> None:
    """Add ``roots`` and all their inputs, direct and indirect, to ``steps``.

    A step has its inputs, a description, its settings, the command that makes it again, and the provenance from its
    manifest (None if the artifact is no longer stored). ``call`` is the command of the experiment.
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
        "description": stage_of(node).describe(
            node, {} if manifest is None else {**manifest.counts, **manifest.metrics}
        ),
        "inputs": {label: child.folder for label, child in node.inputs.items()},
        "settings": asdict(node.spec),
        "command": None if node.is_source else command_line(call, node.command, node.choose),
        "manifest": None if manifest is None else _made(manifest),
    }


def _manifest(store: Store, node: AnyNode) -> Manifest | None:
    """Return the manifest; None if it is gone or damaged, as a number stays valid after its inputs are deleted."""
    try:
        return store.manifest(node)
    except ArtifactError:
        return None


def _made(manifest: Manifest) -> dict[str, Any]:
    """Return the provenance fields of a manifest, without settings and inputs."""
    names = ("seed", "counts", "metrics", "commit", "versions", "hardware", "seconds", "finished_at")
    return {name: getattr(manifest, name) for name in names}
