"""Runs of W&B, one for each task of an experiment, online or in files to upload later."""

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
    """The interface by which a stage reports to a tracker."""

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics while the stage runs; its final metrics are in its manifest."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Log a table; the tracker may keep only the first rows."""

    def histogram(self, name: str, values: Sequence[float]) -> None:
        """Log the distribution of a quantity."""

    def made(self, node: AnyNode, path: Path, manifest: Manifest) -> None:
        """Log a finished artifact of the task: its metrics and its inputs."""


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
    """A run of W&B. Its artifacts hold what the key of a node is the hash of; payloads are not uploaded."""

    def __init__(self, run: Any, tracker: TrackerConfig) -> None:
        self._run = run
        self._tracker = tracker
        self._made: dict[str, Any] = {}
        self._recorded: set[str] = set()  # folders of artifacts that were logged or used
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
            if child.folder not in self._recorded:
                self._recorded.add(child.folder)
                self._use(child)
        self._recorded.add(node.folder)
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
        """Log the averages over benchmarks and finish the run."""
        if self._scores:
            names = ("accuracy", "accuracy_low", "accuracy_high", "num_tokens")
            rows = [[bench, *(manifest.metrics[name] for name in names)] for bench, manifest in self._scores.items()]
            self.table("eval/scores", ("benchmark", *names), rows)
            manifests = self._scores.values()
            means = {name: sum(manifest.metrics[name] for manifest in manifests) / len(rows) for name in names}
            self._run.summary.update({"eval/average": means["accuracy"], "eval/num_tokens": means["num_tokens"]})
        self._run.finish()

    def _use(self, node: AnyNode) -> None:
        """Record that the run reads an artifact.

        The description has the same bytes as in the run that made the artifact, so W&B treats both as one artifact. It
        need not exist there yet.
        """
        artifact = _artifact(node, {})
        if self._run.offline:
            # use_artifact raises offline. This call is what it does online with an artifact that is not logged yet: it
            # records the use, and wandb sync uploads the record.
            self._run._log_artifact(artifact, is_user_created=True, use_after_commit=True)
        else:
            self._run.use_artifact(artifact)


def _artifact(node: AnyNode, about: Mapping[str, Any]) -> Any:
    """Return the W&B artifact of a node: one small file with the content that its key is the hash of."""
    import wandb

    artifact = wandb.Artifact(artifact_name(node), type=node.kind, metadata=dict(about))
    with artifact.new_file("node.json", encoding="utf-8") as handle:
        json.dump({"name": node.name, **node.content}, handle, indent=2, sort_keys=True)
    return artifact


def _about(path: Path, manifest: Manifest) -> dict[str, Any]:
    """Return the metadata of a finished artifact: path of the payload and fields of its manifest."""
    kept = ("counts", "metrics", "seed", "versions", "commit", "seconds", "hardware", "finished_at")
    return {"path": str(path.absolute()), **{name: getattr(manifest, name) for name in kept}}


def _weights(node: AnyNode, path: Path) -> Any:
    """Return the W&B artifact with the files of a model."""
    import wandb

    artifact = wandb.Artifact(f"{artifact_name(node)}.weights", type="weights")
    artifact.add_dir(str(path), policy="immutable")  # artifacts never change, so no copy is needed for the upload
    return artifact


@contextmanager
def track(config: Config, nodes: Sequence[AnyNode]) -> Iterator[Run]:
    """Open a run for the nodes of one task; a run that fails is marked as failed."""
    if config.tracker.name == "none":
        yield NoRun()
        return
    import wandb

    folder = Path(config.artifacts).absolute()
    # By default W&B keeps staging and cache in the home folder; these settings keep both below the artifacts.
    for variable, name in (("WANDB_DATA_DIR", "data"), ("WANDB_CACHE_DIR", "cache"), ("WANDB_CONFIG_DIR", "config")):
        os.environ.setdefault(variable, str(folder / "wandb" / name))
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
    """Return a new id that sorts after all earlier ones.

    The folder of an offline run is named by the second and its id, and folders are uploaded in the order of their
    names. Runs of one second must keep their order too, as later runs use artifacts of earlier ones.
    """
    return f"{time.time_ns():016x}{secrets.token_hex(2)}"


def check_tracker(tracker: TrackerConfig) -> None:
    """Check, before the work, that W&B accepts an API key.

    Raises:
        ConfigError: runs are tracked online and there is no valid API key.
    """
    if tracker.name == "none" or tracker.mode == "offline":
        return
    import wandb
    from wandb.sdk.lib import wbauth

    try:
        host = wandb.setup().settings.base_url
        session = wbauth.authenticate_session(host=host, source="micota", prompt=False, update_session=False)
    except wandb.errors.AuthenticationError as error:
        raise ConfigError(f"tracker.mode=online: {error}; accepted: a valid WANDB_API_KEY") from error
    if session is None:
        raise ConfigError(
            f"tracker.mode=online, but there is no API key for {host}; log in with wandb login, or set WANDB_API_KEY, "
            "or choose tracker.mode=offline or tracker=none"
        )


def offline_runs(config: Config) -> set[Path]:
    """Return the folders of all runs that were tracked offline, uploaded or not."""
    return set((Path(config.artifacts) / "wandb").glob(OFFLINE_RUNS))


def sync_command(config: Config, before: set[Path]) -> str | None:
    """Return the command that uploads offline runs; None if there is no run beyond those ``before``.

    It uploads one run at a time, oldest first, so that an artifact is logged by the run that made it before another
    run uses it: given several runs, ``wandb sync`` takes them in any order.
    """
    if not offline_runs(config) - before:
        return None
    folder = shlex.quote(str(Path(config.artifacts) / "wandb"))
    return f'for run in {folder}/{OFFLINE_RUNS}; do wandb sync "$run"; done'
