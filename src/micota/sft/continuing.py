"""A run that goes on from the end of a shorter one, and ends with the same bits as if it had never ended."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from micota.artifacts.manifest import Manifest, read_manifest
from micota.config import SftConfig
from micota.errors import ConfigError
from micota.graph import TrainSpec
from micota.graph.node import Node
from micota.sft.learning_rate import learning_rate_factor

LENGTH = ("epochs", "max_steps")  # what may differ between the two runs


def check_shorter(folder: Path, node: Node[TrainSpec], num_steps: int) -> Manifest:
    """The manifest of a finished run that this one continues.

    Args:
        folder: of its artifact.
        num_steps: of this run.

    Raises:
        ConfigError: the runs differ in more than their length, or the shorter one had another learning rate at a step.
    """
    manifest, key = read_manifest(folder), f"trainer.continue_from={folder}"
    if manifest.stage != node.stage:
        raise ConfigError(f"{key} was made by {manifest.stage}; accepted: the folder of a model that train has made")
    before, after = _settings(manifest.config), _settings(asdict(node.spec))
    before |= {f"inputs.{label}": entry["key"] for label, entry in manifest.inputs.items()}
    after |= {f"inputs.{label}": child.key for label, child in node.inputs.items()}
    different = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if different:
        name = different[0]
        raise ConfigError(
            f"{key} has {name}={before.get(name)!r}, and this run {after.get(name)!r}; accepted: runs that differ in "
            f"sft.epochs or sft.max_steps alone, or student.path={folder}, which starts from its weights"
        )
    sft, done = node.spec.sft, manifest.counts["steps"]
    if sft.best.by != "none":
        raise ConfigError(
            f"{key} with sft.best.by={sft.best.by}: its weights may be those of an earlier step; accepted: none"
        )
    if done >= num_steps:
        raise ConfigError(f"{key} has {done} steps, and this run {num_steps}; accepted: more epochs or max_steps")
    _check_rates(key, folder, sft, done, num_steps)
    return manifest


def _check_rates(key: str, folder: Path, sft: SftConfig, done: int, num_steps: int) -> None:
    """Refuse a schedule that depends on the length of the run, within the steps that are done and the next."""
    for step in range(done + 1):
        rates = [sft.learning_rate * learning_rate_factor(step, total, sft) for total in (done, num_steps)]
        if rates[0] != rates[1]:
            raise ConfigError(
                f"{key} had the learning rate {rates[0]:g} at step {step}, and a run of {num_steps} steps has "
                f"{rates[1]:g} there (schedule={sft.schedule}); accepted: sft.schedule=constant with warmup_steps in "
                f"both, or student.path={folder}, which starts from its weights"
            )


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a spec without the length of the run, as one dict."""
    sft = {f"sft.{name}": value for name, value in config["sft"].items() if name not in LENGTH}
    return sft | {name: value for name, value in config.items() if name != "sft"}
