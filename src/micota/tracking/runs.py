"""Runs of W&B, one for each task of an experiment, online or in files to upload later."""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol

from micota.artifacts.manifest import Manifest
from micota.config import Config, TrackerConfig, command_line
from micota.errors import ConfigError, is_users, shown
from micota.graph.node import AnyNode
from micota.graph.specs import ScoresSpec
from micota.shell import quoted
from micota.tracking.lineage import artifact_name, describe, headline, section, subject, tags

OFFLINE_RUNS = "offline-run-*"
OF_SWEEP = "WANDB_RUN_ID"  # the run that a sweep's agent has made for its command
TRACKED_ABOVE = "MICOTA_TRACKED_BY"  # set while one run tracks a whole command
OBJECTIVE = "objective"  # in a summary: the number that a sweep optimises


Done = tuple[AnyNode, Path, Manifest]
P = ParamSpec("P")
logger = logging.getLogger(__name__)


class Run(Protocol):
    """The interface by which a stage reports to a tracker."""

    @property
    def id(self) -> str | None:
        """Its id; None without a run."""

    @property
    def address(self) -> str:
        """The URL of the run, or its id where it is offline; empty without a run."""

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics while the stage runs; its final metrics are in its manifest."""

    def table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Log a table; the tracker may keep only the first rows."""

    def histogram(self, name: str, values: Sequence[float]) -> None:
        """Log the distribution of a quantity."""

    def made(self, node: AnyNode, path: Path, manifest: Manifest) -> None:
        """Log a finished artifact of the task: its metrics and its inputs."""


class NoRun:
    """``tracker=none``."""

    @property
    def id(self) -> str | None:
        return None

    @property
    def address(self) -> str:
        return ""

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        pass

    def table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        pass

    def histogram(self, name: str, values: Sequence[float]) -> None:
        pass

    def made(self, node: AnyNode, path: Path, manifest: Manifest) -> None:
        pass


def _never_ends_work(method: Callable[Concatenate[WandbRun, P], None]) -> Callable[Concatenate[WandbRun, P], None]:
    """A method of a run whose errors end the tracking, not the work: the process of W&B may be killed at any time."""

    @wraps(method)
    def tracked(self: WandbRun, /, *arguments: P.args, **named: P.kwargs) -> None:
        if self.is_lost:
            return
        try:
            method(self, *arguments, **named)
        except Exception as error:  # of W&B, which raises many kinds
            self.lose(error)

    return tracked


class WandbRun:
    """A run of W&B. Where W&B fails, tracking ends and the work goes on.

    Its artifacts hold what the key of a node is the hash of; payloads are not uploaded.
    """

    def __init__(
        self, open_run: Callable[[], Any], tracker: TrackerConfig, identity: str, done: Sequence[Done] = ()
    ) -> None:
        """``open_run`` is called at the first report, and ``done`` is logged first: a stage that is refused before it
        begins leaves no run."""
        self._id = identity
        self._open_run = open_run
        self._opened: Any = None
        self._done = done
        self._tracker = tracker
        self._made: list[dict[str, Any]] = []
        self._recorded: set[str] = set()  # folders of artifacts that were logged or used
        self._scores: dict[str, Manifest] = {}
        self.is_lost = False  # W&B has failed, and nothing is tracked any more

    def lose(self, error: Exception) -> None:
        """Go on without tracking, and say so."""
        self.is_lost = True
        text = shown(str(error)) or type(error).__name__
        logger.warning("the run of W&B has ended (%s): nothing more is tracked", text, exc_info=error)
        print(
            f"the run of W&B has ended ({text}): the work goes on, and nothing more of it is tracked", file=sys.stderr
        )
        with suppress(Exception):  # its import may have been interrupted; so that a next run starts a process
            import wandb

            wandb.teardown(1)

    @property
    def _run(self) -> Any:
        if self._opened is None:
            self._opened = self._open_run()
            for node, path, manifest in self._done:
                self.made(node, path, manifest)
        return self._opened

    @property
    def id(self) -> str:
        return self._id

    @property
    def address(self) -> str:
        if not self.is_lost:
            try:
                return self._id if self._run.offline else str(self._run.url)
            except Exception as error:
                self.lose(error)
        return self._id

    @_never_ends_work
    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._run.log(dict(metrics), step=step)

    @_never_ends_work
    def table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        import wandb

        shown = [list(row) for row in islice(rows, self._tracker.table_rows)]
        self._run.log({name: wandb.Table(columns=list(columns), data=shown)})

    @_never_ends_work
    def histogram(self, name: str, values: Sequence[float]) -> None:
        import wandb

        self._run.log({name: wandb.Histogram(list(values))})

    @_never_ends_work
    def summarise(self, numbers: Mapping[str, float]) -> None:
        self._run.summary.update(dict(numbers))

    @_never_ends_work
    def made(self, node: AnyNode, path: Path, manifest: Manifest) -> None:
        self.recorded(node, path, manifest)
        numbers = {**manifest.counts, **manifest.metrics}
        self.summarise({f"{section(node)}/{name}": value for name, value in numbers.items()})
        if isinstance(node.spec, ScoresSpec):
            self._scores[str(node.benchmark)] = manifest

    @_never_ends_work
    def recorded(self, node: AnyNode, path: Path, manifest: Manifest) -> None:
        """Log an artifact with its inputs and settings, without its metrics."""
        for child in node.inputs.values():
            if child.folder not in self._recorded:
                self._recorded.add(child.folder)
                self._use(child)
        self._recorded.add(node.folder)
        self._run.log_artifact(_artifact(node, _about(path, manifest)))
        if self._tracker.log_models and node.kind == "models":
            self._run.log_artifact(_weights(node, path))
        # A list is one column in W&B. A map by artifact would give every run columns of its own.
        self._made.append({"artifact": node.folder, "config": manifest.config, "inputs": manifest.inputs})
        self._run.config.update({"made": self._made}, allow_val_change=True)

    @_never_ends_work
    def close(self) -> None:
        """Log the averages over benchmarks and finish the run."""
        if self._scores:
            names = ("accuracy", "accuracy_low", "accuracy_high", "num_tokens")
            rows = [[bench, *(manifest.metrics[name] for name in names)] for bench, manifest in self._scores.items()]
            self.table("eval/scores", ("benchmark", *names), rows)
            manifests = self._scores.values()
            means = {name: sum(manifest.metrics[name] for manifest in manifests) / len(rows) for name in names}
            self.summarise({"eval/average": means["accuracy"], "eval/num_tokens": means["num_tokens"]})
        self._run.finish()

    def fail(self, error: BaseException) -> None:
        """Mark the run as failed. A user error, or an end by a signal, before the first report leaves no run."""
        if self._opened is not None or not (is_users(error) or not isinstance(error, Exception)):
            self._finish_failed()

    @_never_ends_work
    def _finish_failed(self) -> None:
        self._run.finish(exit_code=1)

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
def track(
    config: Config,
    nodes: Sequence[AnyNode],
    done: Sequence[Done] = (),
    continued: str | None = None,
    show: Callable[[str], None] | None = None,
) -> Iterator[Run]:
    """A run for the nodes of one task, opened at its first report; a run that fails is marked as failed.

    Args:
        done: the nodes that were made before, with folder and manifest; they are logged too.
        continued: the id of an earlier run that this one continues.
        show: is called with the URL of an online run when it is opened.
    """
    if config.tracker.name == "none" or TRACKED_ABOVE in os.environ:
        yield NoRun()
        return
    identity = os.environ.get(OF_SWEEP) if in_sweep() else continued
    identity = identity or run_id()

    def open_run() -> Any:
        return _opened(config, nodes, identity, show, resumes=continued is not None)

    tracked = WandbRun(open_run, config.tracker, identity, done)
    try:
        yield tracked
    except BaseException as error:
        tracked.fail(error)
        raise
    tracked.close()


def _opened(
    config: Config, nodes: Sequence[AnyNode], identity: str, show: Callable[[str], None] | None, *, resumes: bool
) -> Any:
    """Begin or continue a run of W&B."""
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
        id=identity,
        resume="allow" if resumes and config.tracker.mode == "online" else None,  # sync joins offline runs by their id
        tags=tags(about, config.seed),
        config={"experiment": config.name, "seed": config.seed, "command": steps, **about},
        settings=wandb.Settings(silent=True, console="off"),
    )
    if show is not None and not run.offline:
        show(run.url)
    return run


@contextmanager
def track_command(
    config: Config, nodes: Sequence[AnyNode], show: Callable[[str], None] | None = None
) -> Iterator[WandbRun | None]:
    """The one run of a command that is tracked as a whole, or None where each task is a run (see ``tracker.run``).

    What runs inside, also in other processes, opens no runs of its own.
    """
    if not tracks_command(config.tracker):
        yield None
        return
    with track(config, nodes, show=show) as run:
        assert isinstance(run, WandbRun)
        os.environ[TRACKED_ABOVE] = run.id
        try:
            yield run
        finally:
            del os.environ[TRACKED_ABOVE]


def tracks_command(tracker: TrackerConfig) -> bool:
    """Whether a command is one run, also where all its artifacts exist."""
    is_one = tracker.run == "command" or (tracker.run == "auto" and in_sweep())
    return is_one and tracker.name != "none" and TRACKED_ABOVE not in os.environ


def in_sweep() -> bool:
    """Whether an agent of W&B has started this command."""
    return "WANDB_SWEEP_ID" in os.environ


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
    folder = quoted(str(Path(config.artifacts) / "wandb"))
    return f'for run in {folder}/{OFFLINE_RUNS}; do wandb sync "$run"; done'
