"""Where each number comes from: all artifacts below it, with what made them, as the page shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from micota.artifacts import ArtifactError, Manifest, Store
from micota.config import command, without_keys
from micota.records import Node

Steps = dict[str, dict[str, Any]]  # by folder


def trace(steps: Steps, store: Store, roots: Iterable[Node], overrides: Sequence[str], seed: int) -> None:
    """Add ``roots`` and all they were made from to ``steps``.

    A step has its place in the graph, what it did in words, its settings, the command that makes it again, and of its
    manifest what says how it came to be (null where the artifact is no longer stored). ``overrides`` are those of the
    command line that the experiment ran with.
    """
    for node in roots:
        if node.folder not in steps:
            steps[node.folder] = _step(store, node, [*without_keys(list(overrides), {"seed"}), f"seed={seed}"])
            trace(steps, store, node.inputs.values(), overrides, seed)


def _step(store: Store, node: Node, overrides: list[str]) -> dict[str, Any]:
    manifest = None if node.is_source else _manifest(store, node)
    return {
        "stage": node.stage,
        "name": node.name,
        "key": node.key,
        "says": describe(node, manifest),
        "inputs": {label: child.folder for label, child in node.inputs.items()},
        "settings": asdict(node.spec),
        "command": None if node.is_source else "python " + " ".join(command(node.door, overrides, node.choose)),
        "manifest": None if manifest is None else _made(manifest),
    }


def _manifest(store: Store, node: Node) -> Manifest | None:
    """None where it is gone or damaged: a number stays true when what it was made from has been cleared away."""
    try:
        return store.manifest(node)
    except ArtifactError:
        return None


def _made(manifest: Manifest) -> dict[str, Any]:
    """What a manifest says beside the settings and the inputs."""
    names = ("seed", "counts", "metrics", "commit", "versions", "hardware", "seconds", "finished_at")
    return {name: getattr(manifest, name) for name in names}


def describe(node: Node, manifest: Manifest | None) -> str:
    """What a step did, in one line. Counts are told where its manifest is still there."""
    spec = node.spec
    counts: Mapping[str, int] = {} if manifest is None else manifest.counts
    match node.stage:
        case "source":
            return f"{spec.path}@{spec.revision}" if spec.revision else str(spec.path)
        case "generate":
            drawn = "greedy" if spec.sampling.temperature == 0 else f"temperature {spec.sampling.temperature:g}"
            samples = f", {spec.sampling.num_samples} samples each" if spec.sampling.num_samples > 1 else ""
            asked = f"{counts['requested']} answers" if "requested" in counts else "answers"
            return f"{asked}, {drawn}{samples}, at most {spec.sampling.max_tokens} tokens, {spec.engine} {spec.dtype}"
        case "select":
            kept = f"{counts['examples']} examples" if "examples" in counts else "examples"
            mixed = ", ".join(f"{share:g} {part}" for part, share in spec.weights.items())
            return f"{kept}, mixed {mixed}" if mixed else f"{kept}, kept by {', '.join(spec.select.filters)}"
        case "train":
            sft = spec.sft
            tuned = "full fine-tuning" if sft.lora is None else "LoRA"
            steps = f", {counts['steps']} steps" if "steps" in counts else ""
            return f"{tuned}, learning rate {sft.learning_rate:g}, batch {sft.batch_size}, epochs {sft.epochs:g}{steps}"
        case "merge":
            return f"{spec.method}, density {_setting(spec.density)}, weight {_setting(spec.weight)}"
        case "grade":
            right = f": {counts.get('correct', 0)} of {counts['scores']} correct" if "scores" in counts else ""
            return f"graded by {spec.grader}{right}"
        case "probe":
            merges = f"{counts['points']} merges" if "points" in counts else "merges"
            return f"{merges} by {spec.merge.method}, measured in memory on {spec.problems.limit} problems"
        case "rank_shift":
            return "ranks of the answers' tokens before tuning"
        case "measure":
            bits = "" if manifest is None else f": {manifest.metrics['bits_per_byte']:.3f} bits per byte"
            return f"likelihood of the data{bits}"
    return node.stage


def _setting(value: Any) -> str:
    """A number, or one a module, or what calibration is to find."""
    if value is None:
        return "found by calibration"
    return f"{value:g}" if isinstance(value, int | float) else "by module"
