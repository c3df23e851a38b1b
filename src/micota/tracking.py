"""Weights & Biases: one run a task, with group, job type, config, metrics, tables and the lineage of artifacts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from micota.artifacts import MANIFEST, Manifest
from micota.config import Config
from micota.records import Node


class Run(Protocol):
    """Where a stage reports to."""

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None: ...

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None: ...

    def made(self, node: Node, path: Path, manifest: Manifest) -> None: ...


class NoRun:
    """``tracker=none``."""

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        pass

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        pass

    def made(self, node: Node, path: Path, manifest: Manifest) -> None:
        pass


class WandbRun:
    """A run of W&B. Artifacts are logged by their manifest: payloads stay where they are, lineage is by key."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._run.log(dict(metrics), step=step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        import wandb

        self._run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def made(self, node: Node, path: Path, manifest: Manifest) -> None:
        import wandb

        for child in node.inputs.values():
            # Offline there is no server to ask for an artifact by its name: lineage is then in the config alone.
            if not child.is_source and self._run.settings.mode == "online":
                self._run.use_artifact(f"{artifact_name(child)}:latest", type=child.kind)
        artifact = wandb.Artifact(artifact_name(node), type=node.kind, metadata=asdict(manifest))
        artifact.add_file(str(path / MANIFEST))
        self._run.log_artifact(artifact)
        self._run.config.update({f"{node.stage}/{node.name}": manifest.config | {"inputs": manifest.inputs}})
        self._run.summary.update({f"{node.stage}/{node.name}/{k}": v for k, v in manifest.metrics.items()})


def artifact_name(node: Node) -> str:
    """Name and key in the characters that W&B allows."""
    return re.sub(r"[^\w.-]", ".", f"{node.name}-{node.key}")


@contextmanager
def track(config: Config, job_type: str, name: str) -> Iterator[Run]:
    """Open a run for one task; a run that fails is marked as failed."""
    if config.tracker.name == "none":
        yield NoRun()
        return
    import wandb

    folder = Path(config.artifacts).absolute()
    # W&B keeps staging and cache in the home folder unless told: everything of ours stays below the artifacts.
    for variable, place in (("WANDB_DATA_DIR", "data"), ("WANDB_CACHE_DIR", "cache"), ("WANDB_CONFIG_DIR", "config")):
        os.environ.setdefault(variable, str(folder / "wandb" / place))
    run = wandb.init(
        project=config.tracker.project,
        entity=config.tracker.entity,
        mode=config.tracker.mode,  # type: ignore[arg-type]
        dir=str(folder),
        group=config.name,
        job_type=job_type,
        name=name,
        tags=[config.student.name, f"seed-{config.seed}"],
        config={"seed": config.seed, "overrides": config.overrides},
        settings=wandb.Settings(silent=True, console="off"),
    )
    try:
        yield WandbRun(run)
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()
