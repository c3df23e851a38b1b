"""A run that goes on from the end of a shorter one, and ends with the same bits as if it had never ended."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from micota.artifacts.manifest import MANIFEST, Manifest, damage, read_manifest, remedy
from micota.config import SftConfig
from micota.errors import ArtifactError, ConfigError
from micota.graph import TrainSpec
from micota.graph.node import Node
from micota.sft.learning_rate import learning_rate_factor

LENGTH = ("epochs", "max_steps")  # what may differ between the two runs
CHECKPOINTS = "checkpoints"  # the folder in the artifact of a model
ACCEPTED = "accepted: the folder of a model that train made with trainer.keep_checkpoint=true"


def check_settings(folder: Path, node: Node[TrainSpec]) -> Manifest:
    """The manifest of a finished run that this one continues, as far as its files show it without torch.

    Args:
        folder: of its artifact.

    Raises:
        ConfigError: there is no such run, it kept no checkpoint, or the runs differ in more than their length.
        ArtifactError: it is damaged.
    """
    key = f"trainer.continue_from={folder}"
    if not (folder / MANIFEST).is_file():
        missing = "it has no manifest.json" if folder.is_dir() else "there is no such folder"
        raise ConfigError(f"{key}: {missing}; {ACCEPTED}")
    manifest = read_manifest(folder)
    if (problem := damage(folder, manifest)) is not None:
        raise ArtifactError(f"{problem}{remedy(folder, manifest)}")
    if manifest.stage != node.stage:
        raise ConfigError(f"{key} was made by {manifest.stage}; {ACCEPTED}")
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
    if node.spec.sft.best.by != "none":
        raise ConfigError(
            f"{key} with sft.best.by={node.spec.sft.best.by}: its weights may be those of an earlier step; accepted: "
            "none"
        )
    if node.spec.sft.max_steps is not None:
        _check_longer(key, manifest.counts["steps"], node.spec.sft.max_steps)
    if not any((folder / CHECKPOINTS).glob("step=*.ckpt")):
        raise ConfigError(f"{key} has no checkpoint; {ACCEPTED}")
    return manifest


def check_shorter(folder: Path, node: Node[TrainSpec], num_steps: int) -> Manifest:
    """The manifest of a finished run that this one continues.

    Args:
        folder: of its artifact.
        num_steps: of this run.

    Raises:
        ConfigError: as of ``check_settings``, or the shorter run had another learning rate at a step.
        ArtifactError: it is damaged.
    """
    manifest, key = check_settings(folder, node), f"trainer.continue_from={folder}"
    sft, done = node.spec.sft, manifest.counts["steps"]
    _check_longer(key, done, num_steps)
    _check_rates(key, folder, sft, done, num_steps)
    return manifest


def _check_longer(key: str, done: int, num_steps: int) -> None:
    if done >= num_steps:
        raise ConfigError(f"{key} has {done} steps, and this run {num_steps}; accepted: more epochs or max_steps")


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
