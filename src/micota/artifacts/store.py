"""The store of artifacts: folders ``artifacts/<kind>/<name>-<key>/`` with a payload and a manifest, complete or absent.

An artifact is built in ``<folder>.partial``. The folder is renamed after its manifest is written, so a folder without
the suffix is complete. The partial folder of a killed build stays, and the next run resumes from it. One process builds
an artifact at a time.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from micota.artifacts.jsonl import DRAFT, write_text
from micota.artifacts.locks import LOCK, building
from micota.artifacts.provenance import commit, hardware, sha256, versions
from micota.console import PROGRESS
from micota.errors import ArtifactError, is_users
from micota.graph.node import SCHEMA_VERSION, AnyNode

MANIFEST = "manifest.json"
LOG = "log.txt"
RUN = ".run"  # in an unfinished build: the id of the run that tracks it
PARTIAL, DELETED = ".partial", ".forgotten"  # suffixes of the folders of unfinished and of deleted artifacts
ENGINE = ".engine"  # in the folder of an artifact that is being made: the engine that began it


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an artifact is and how it was made. ``files`` maps paths to size in bytes and SHA-256."""

    schema_version: int
    stage: str
    name: str
    key: str
    config: dict[str, Any]
    inputs: dict[str, dict[str, Any]]
    counts: dict[str, int]
    metrics: dict[str, float]
    seed: int
    versions: dict[str, str]
    commit: str | None
    seconds: float
    hardware: dict[str, Any]
    finished_at: str
    files: dict[str, dict[str, Any]]
    engine: str = ""  # that made it, where the config leaves the choice (engine=auto)
    experiment: str = ""  # the experiment of the run that made it; others may share it
    command: str = ""  # the line that makes it
    run: str = ""  # of W&B, by its URL, or by its id where it was offline


@dataclass
class Build:
    """An artifact in the making: write the payload below ``path``, counts and metrics into the dicts."""

    path: Path
    counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    engine: str = ""  # the one that engine=auto stands for
    run: str = ""  # of the tracker

    def clear(self) -> None:
        """Delete the payload: it is of no use to a next run."""
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif _is_payload(path):
                path.unlink()

    def begin_run(self, identity: str | None) -> None:
        """Note the run of the tracker, so that a build that goes on from here continues it."""
        if identity is not None:
            (self.path / RUN).write_text(identity, encoding="utf-8")


class Store:
    """All artifacts below one folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def path(self, node: AnyNode) -> Path:
        return self.root / node.folder

    def partial(self, node: AnyNode) -> Path:
        """The folder in which the artifact of ``node`` is built."""
        return self.path(node).with_name(self.path(node).name + PARTIAL)

    def manifest(self, node: AnyNode) -> Manifest | None:
        """Return the manifest of a finished artifact, or None if there is no such artifact.

        Raises:
            ArtifactError: the manifest is unreadable or of another schema, or a file is missing or of another size.
        """
        path = self.path(node)
        if not path.exists():
            return None
        manifest = read_manifest(path)
        if (problem := damage(path, manifest)) is not None:
            raise ArtifactError(f"{problem}: the artifact is damaged. Delete {path} and run the command again")
        return manifest

    def is_done(self, node: AnyNode) -> bool:
        return node.is_source or self.manifest(node) is not None

    def progress(self, node: AnyNode) -> bool:
        """Return whether there is an unfinished build of this artifact to resume."""
        return self.partial(node).exists()

    def run_of(self, node: AnyNode) -> str | None:
        """The id of the run that tracked an unfinished build; None without one."""
        path = self.partial(node) / RUN
        return path.read_text(encoding="utf-8") or None if path.exists() else None

    @contextmanager
    def build(
        self, node: AnyNode, seed: int, experiment: str = "", command: str = "", *, wait: bool = False
    ) -> Iterator[Build | None]:
        """Build the artifact of ``node``: yields the folder to write to, or None if another process has finished it.

        At the end of the block, without an exception, the manifest is written and the folder renamed. The manifest
        names the ``experiment`` of the run and the ``command`` that makes the artifact. If another process builds it,
        ``wait`` waits for its end.

        Raises:
            ArtifactError: the folder cannot be written to, or another process builds the artifact.
        """
        final = self.path(node)
        partial = self.partial(node)
        new_folders = [folder for folder in (partial.parent, self.root) if not folder.exists()]
        with building(partial, wait):
            if final.exists():
                # The process that built the artifact while this one waited has renamed its own partial folder.
                shutil.rmtree(partial, ignore_errors=True)
                yield None
                return
            build = Build(partial)
            start = time.perf_counter()
            try:
                with _logged(partial / LOG):
                    yield build
            except Exception as error:
                # What is refused leaves nothing, unless there is work to go on from.
                if is_users(error) and not any(path.stat().st_size for path in partial.rglob("*") if _is_payload(path)):
                    shutil.rmtree(partial, ignore_errors=True)
                    with suppress(OSError):  # other artifacts were made there meanwhile
                        for folder in new_folders:
                            folder.rmdir()
                raise
            _set_modes(partial)
            made_for = {"seed": seed, "experiment": experiment, "command": command, "run": build.run}
            _write_manifest(node, build, time.perf_counter() - start, **made_for)
            partial.rename(final)
            (final / LOCK).unlink()
            _sync_folder(final.parent)

    def forget(self, node: AnyNode) -> None:
        """Delete a finished artifact, so that the next run makes it again."""
        if self.path(node).exists():
            doomed = self.path(node).with_name(self.path(node).name + DELETED)
            self.path(node).rename(doomed)
            shutil.rmtree(doomed)

    def siblings(self, node: AnyNode) -> Iterator[Manifest]:
        """Yield the manifests of finished artifacts of the same name and another key: those of earlier configs."""
        for path in sorted(self.path(node).parent.glob(f"{node.name}-*/{MANIFEST}")):
            if path.parent != self.path(node) and path.parent.name == f"{node.name}-{path.parent.name[-10:]}":
                yield read_manifest(path.parent)


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the artifact folder ``path``.

    Raises:
        ArtifactError: missing, not JSON, or of another schema version.
    """
    try:
        content = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(
            f"{path} has no {MANIFEST}: it is not a finished artifact. Delete it and run again"
        ) from None
    except ValueError as error:
        raise ArtifactError(f"{path / MANIFEST} is not valid JSON ({error}). Delete {path} and run again") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has artifact schema {version}, this version of micota reads schema {SCHEMA_VERSION}: "
            "delete the folder and run again, or use the version of micota that made it"
        )
    try:
        return Manifest(**content)
    except TypeError as error:
        raise ArtifactError(
            f"{path / MANIFEST} does not fit its schema ({error}). Delete {path} and run again"
        ) from error


def damage(path: Path, manifest: Manifest) -> str | None:
    """What is wrong with the files of an artifact folder: one is missing or of another size; None if nothing is."""
    for name, entry in manifest.files.items():
        size = (path / name).stat().st_size if (path / name).exists() else None
        if size != entry["bytes"]:
            seen = "is missing" if size is None else f"has {size} bytes"
            return f"{path / name} {seen}, its manifest has {entry['bytes']}"
    return None


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Write all log records to a file while the block runs."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        with suppress(OSError):
            handler.close()


class _LogFile(logging.FileHandler):
    """A log file that ignores its write errors: on a full disk the write of the payload raises the error."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name is logging's)
        pass


def _set_modes(folder: Path) -> None:
    """Give the files of a folder the modes of the umask; libraries that write by way of temporary files make them
    readable by their owner alone."""
    mode = (folder / LOCK).stat().st_mode & 0o666  # of a file that Python's open has made
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)
        else:
            path.chmod(folder.stat().st_mode)


def _is_payload(path: Path) -> bool:
    return path.is_file() and path.name not in (LOCK, LOG, PROGRESS, ENGINE, RUN)


def _write_manifest(node: AnyNode, build: Build, seconds: float, **made_for: Any) -> None:
    for name in (PROGRESS, ENGINE, RUN):
        (build.path / name).unlink(missing_ok=True)
    for draft in build.path.rglob("*" + DRAFT):
        draft.unlink()  # left by a killed run; it must not be listed among the files
    files = {
        str(path.relative_to(build.path)): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(build.path.rglob("*"))
        if _is_payload(path)
    }
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        stage=node.stage,
        name=node.name,
        key=node.key,
        config=asdict(node.spec),
        inputs={label: _identity(child) for label, child in node.inputs.items()},
        counts=build.counts,
        metrics=build.metrics,
        engine=build.engine,
        **made_for,
        versions=versions(),
        commit=commit(),
        seconds=round(seconds, 3),
        hardware=hardware(),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files=files,
    )
    write_text(build.path / MANIFEST, json.dumps(asdict(manifest), indent=2) + "\n")


def _identity(node: AnyNode) -> dict[str, Any]:
    """Return name and key of an input; for a source model (not made by a stage) also its spec."""
    return {"name": node.name, "key": node.key} | (asdict(node.spec) if node.is_source else {})


def _sync_folder(path: Path) -> None:
    """Make a rename in ``path`` durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
