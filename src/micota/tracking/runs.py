"""Runs of W&B, one for each task of an experiment, online or in files to be synced later."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from micota.artifacts.store import Manifest
from micota.config import Config, TrackerConfig, command_line
from micota.errors import ConfigError
from micota.graph.node import AnyNode
from micota.graph.specs import ScoresSpec
from micota.tracking.lineage import artifact_name, describe, headline, section, subject, tags

OFFLINE_RUNS = "offline-run-*"


class Run(Protocol):
    """Where a stage reports to."""

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers that change while the stage runs; what it ends with is in its manifest."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Rows to read; of many, the first."""

    def histogram(self, name: str, values: Sequence[float]) -> None:
        """How a quantity is distributed."""

    def made(self, node: AnyNode, path: Path, manifest: Manifest) -> None:
        """An artifact of the task is there: its numbers, and what it was made from."""


class NoRun:
    """``tracker=none``."""

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        pass

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        pass

    def histogram(self, name: str, values: Sequence[float]) -> None:
        pass

    def made(self, node: AnyNode, path: Path, manifest: Manifest) -> None:
        pass


class WandbRun:
    """A run of W&B. An artifact is there what its key is the hash of: payloads stay where they are."""

    def __init__(self, run: Any, tracker: TrackerConfig) -> None:
        self._run = run
        self._tracker = tracker
        self._made: dict[str, Any] = {}
        self._told: set[str] = set()  # all that was made or used
        self._scores: dict[str, Manifest] = {}

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._run.log(dict(metrics), step=step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        import wandb

        shown = [list(row) for row in rows[: self._tracker.table_rows]]
        self._run.log({name: wandb.Table(columns=list(columns), data=shown)})

    def histogram(self, name: str, values: Sequence[float]) -> None:
        import wandb

        self._run.log({name: wandb.Histogram(list(values))})

    def made(self, node: AnyNode, path: Path, manifest: Manifest) -> None:
        for child in node.inputs.values():
            if child.folder not in self._told:
                self._told.add(child.folder)
                self._use(child)
        self._told.add(node.folder)
        self._run.log_artifact(_artifact(node, _about(path, manifest)))
        if self._tracker.log_models and node.kind == "models":
            self._run.log_artifact(_weights(node, path))
        self._made[node.folder] = {"config": manifest.config, "inputs": manifest.inputs}
        self._run.config.update({"made": self._made}, allow_val_change=True)
        numbers = {**manifest.counts, **manifest.metrics}
        self._run.summary.update({f"{section(node)}/{name}": value for name, value in numbers.items()})
        if isinstance(node.spec, ScoresSpec):
            self._scores[str(node.benchmark)] = manifest

    def close(self) -> None:
        """Sum up over benchmarks, and hand everything over."""
        if self._scores:
            names = ("accuracy", "accuracy_low", "accuracy_high", "num_tokens")
            rows = [[bench, *(found.metrics[name] for name in names)] for bench, found in self._scores.items()]
            self.table("eval/scores", ("benchmark", *names), rows)
            means = {name: sum(found.metrics[name] for found in self._scores.values()) / len(rows) for name in names}
            self._run.summary.update({"eval/average": means["accuracy"], "eval/num_tokens": means["num_tokens"]})
        self._run.finish()

    def _use(self, node: AnyNode) -> None:
        """Say that the run reads an artifact. It is described anew, in the same bytes as by the run that made it, and
        so W&B takes it for the same; it need not be there yet."""
        artifact = _artifact(node, {})
        if self._run.offline:
            # use_artifact refuses to work offline. This is what it does online with an artifact that is not logged yet:
            # the record says that the run uses it, and wandb sync carries that out.
            self._run._log_artifact(artifact, is_user_created=True, use_after_commit=True)
        else:
            self._run.use_artifact(artifact)


def _artifact(node: AnyNode, about: Mapping[str, Any]) -> Any:
    """The node as W&B keeps it: one small file with what its key is the hash of."""
    import wandb

    artifact = wandb.Artifact(artifact_name(node), type=node.kind, metadata=dict(about))
    with artifact.new_file("node.json", encoding="utf-8") as handle:
        json.dump({"name": node.name, **node.content}, handle, indent=2, sort_keys=True)
    return artifact


def _about(path: Path, manifest: Manifest) -> dict[str, Any]:
    """What a finished artifact says of itself, with the place of its payload."""
    kept = ("counts", "metrics", "seed", "versions", "commit", "seconds", "hardware", "finished_at")
    return {"path": str(path.absolute()), **{name: getattr(manifest, name) for name in kept}}


def _weights(node: AnyNode, path: Path) -> Any:
    """A model itself, beside what stands for it in the lineage."""
    import wandb

    artifact = wandb.Artifact(f"{artifact_name(node)}.weights", type="weights")
    artifact.add_dir(str(path), policy="immutable")  # artifacts do not change: no copy is needed to upload from
    return artifact


@contextmanager
def track(config: Config, nodes: Sequence[AnyNode]) -> Iterator[Run]:
    """Open a run for the nodes of one task; a run that fails is marked as failed."""
    if config.tracker.name == "none":
        yield NoRun()
        return
    import wandb

    folder = Path(config.artifacts).absolute()
    # W&B keeps staging and cache in the home folder unless told: everything of ours stays below the artifacts.
    for variable, place in (("WANDB_DATA_DIR", "data"), ("WANDB_CACHE_DIR", "cache"), ("WANDB_CONFIG_DIR", "config")):
        os.environ.setdefault(variable, str(folder / "wandb" / place))
    node = headline(nodes)
    about = describe(nodes)
    steps = command_line(config.call, node.command, node.choose)
    run = wandb.init(
        project=config.tracker.project,
        entity=config.tracker.entity,
        mode=config.tracker.mode,  # type: ignore[arg-type]
        dir=str(folder),
        group=config.name,
        job_type=node.command,
        name=subject(node).name,
        id=run_id(),
        tags=tags(about, config.seed),
        config={"experiment": config.name, "seed": config.seed, "command": steps, **about},
        settings=wandb.Settings(silent=True, console="off"),
    )
    tracked = WandbRun(run, config.tracker)
    try:
        yield tracked
    except BaseException:
        run.finish(exit_code=1)
        raise
    tracked.close()


def run_id() -> str:
    """A new id that sorts after all earlier ones. The folder of an offline run is named by the second and its id, and
    folders are uploaded in the order of their names: of runs of one second, too, the first must go first, since later
    ones use its artifacts."""
    return f"{time.time_ns():016x}{secrets.token_hex(2)}"


def check_tracker(tracker: TrackerConfig) -> None:
    """Find out before anything is made whether W&B can be reached under a name.

    Raises:
        ConfigError: runs are to be tracked online and there is no API key.
    """
    if tracker.name == "none" or tracker.mode == "offline":
        return
    import wandb
    from wandb.sdk.lib import wbauth

    try:
        host = wandb.setup().settings.base_url
        found = wbauth.authenticate_session(host=host, source="micota", prompt=False, update_session=False)
    except wandb.errors.AuthenticationError as error:
        raise ConfigError(f"tracker.mode=online: {error}; accepted: a valid WANDB_API_KEY") from error
    if found is None:
        raise ConfigError(
            f"tracker.mode=online, but there is no API key for {host}; log in with wandb login, or set WANDB_API_KEY, "
            "or choose tracker.mode=offline or tracker=none"
        )


def offline_runs(config: Config) -> set[Path]:
    """The folders of all runs that were tracked offline, uploaded or not."""
    return set((Path(config.artifacts) / "wandb").glob(OFFLINE_RUNS))


def sync_command(config: Config, before: set[Path]) -> str | None:
    """How to upload runs that were tracked offline; None where none was added to those ``before``.

    Each by itself, oldest first, so that an artifact is logged by the run that made it before another run uses it:
    given several runs, ``wandb sync`` takes them in any order.
    """
    if not offline_runs(config) - before:
        return None
    folder = shlex.quote(str(Path(config.artifacts) / "wandb"))
    return f'for run in {folder}/{OFFLINE_RUNS}; do wandb sync "$run"; done'
