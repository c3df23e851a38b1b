"""The store of artifacts: folders ``artifacts/<kind>/<name>-<key>/`` with a payload and a manifest, complete or absent.

An artifact is built in ``<folder>.partial``. The folder is renamed after its manifest is written, so a folder without
the suffix is complete. The partial folder of a killed build stays, and the next run resumes from it. One process builds
an artifact at a time.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from micota.artifacts.jsonl import DRAFT, sync_folder, write_text
from micota.artifacts.locks import LOCK, Notice, builder_of, building
from micota.artifacts.manifest import LOG, MANIFEST, Manifest, changes, damage, read_manifest, remedy, write_manifest
from micota.artifacts.provenance import commit, hardware, versions
from micota.artifacts.sums import Sums
from micota.config.fields import is_slug
from micota.console import PROGRESS
from micota.errors import ArtifactError, is_users, named_by
from micota.graph.node import SCHEMA_VERSION, AnyNode
from micota.secrets import RedactingFormatter

RUN = ".run"  # in an unfinished build: the id of the run that tracks it
PARTIAL, DELETED = ".partial", ".forgotten"  # suffixes of the folders of unfinished and of deleted artifacts
ENGINE = ".engine"  # in the folder of an artifact that is being made: the engine that began it
DISCARDED = ".discarded"  # in an unfinished build: names of folders that are no part of the artifact


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
        self.sums = Sums(self.root)

    def path(self, node: AnyNode) -> Path:
        return self.root / node.folder

    def partial(self, node: AnyNode) -> Path:
        """The folder in which the artifact of ``node`` is built."""
        return self.path(node).with_name(self.path(node).name + PARTIAL)

    def manifest(self, node: AnyNode) -> Manifest | None:
        """Return the manifest of a finished artifact, or None if there is no such artifact.

        It does not read the files, which may be large: who does so asks :meth:`verified` first.

        Raises:
            ArtifactError: the manifest is damaged or of another schema, or a file is missing or of another size.
        """
        path = self.path(node)
        if not path.exists():
            return None
        manifest = read_manifest(path)
        if (problem := damage(path, manifest)) is not None:
            raise ArtifactError(f"{problem}{remedy(path, manifest)}")
        return manifest

    def verified(self, node: AnyNode) -> Path:
        """The folder of a finished artifact, whose files have the SHA-256 sums of the manifest.

        Raises:
            ArtifactError: it is missing or damaged; the text names the file and the command that makes it again.
        """
        path, manifest = self.path(node), self.manifest(node)
        if manifest is None:
            raise ArtifactError(f"{path} is missing; run pipeline.py again, or the command that makes it")
        verify(path, manifest, self.sums)
        return path

    def is_done(self, node: AnyNode) -> bool:
        return node.is_source or self.manifest(node) is not None

    def progress(self, node: AnyNode) -> bool:
        """Return whether there is an unfinished build of this artifact to resume."""
        return self.partial(node).exists()

    def builder(self, node: AnyNode) -> str | None:
        """The process that builds this artifact now, in words; None where no process does."""
        return builder_of(self.partial(node))

    def run_of(self, node: AnyNode) -> str | None:
        """The id of the run that tracked an unfinished build; None without one."""
        path = self.partial(node) / RUN
        identity = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        return identity if is_slug(identity) else None  # a damaged note is none: a new run is tracked

    @contextmanager
    def build(
        self,
        node: AnyNode,
        seed: int,
        experiment: str = "",
        command: str = "",
        *,
        notice: Notice = lambda owner: None,
    ) -> Iterator[Build | None]:
        """Build the artifact of ``node``: yields the folder to write to, or None if another process has finished it.

        At the end of the block, without an exception, the manifest is written and the folder renamed. The manifest
        names the ``experiment`` of the run and the ``command`` that makes the artifact. If another process builds it,
        ``notice`` gets that process in words, and this one waits for its end. A build that was killed goes on here.

        Raises:
            ArtifactError: the folder cannot be written to.
            MachineError: the disk is full.
        """
        partial = self.partial(node)
        new_folders = [folder for folder in (partial.parent, self.root) if not folder.exists()]
        with building(partial, notice):
            if self._is_renamed(node):
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
                if (cause := named_by(partial, error)) is error:
                    raise
                raise cause from error
            _set_modes(partial)
            made_for = {"seed": seed, "experiment": experiment, "command": command, "run": build.run}
            try:
                self._describe(node, build, time.perf_counter() - start, **made_for)
            except OSError as error:
                raise named_by(partial, error) from error
            self._rename(node)

    def _is_renamed(self, node: AnyNode) -> bool:
        """Whether the artifact is there. A build that was killed between its manifest and the rename is renamed now;
        any other manifest in the partial folder is deleted, for it does not fit what the build is to write."""
        partial = self.partial(node)
        if self.path(node).exists():
            return True
        if not (partial / MANIFEST).exists():
            return False
        try:
            manifest = read_manifest(partial)
            others = discarded(partial)
            is_complete = manifest.key == node.key and not any(changes(partial, manifest, self.sums.of, others))
        except ArtifactError:
            is_complete = False
        if is_complete:
            self._rename(node)
        else:
            (partial / MANIFEST).unlink()
        return is_complete

    def _rename(self, node: AnyNode) -> None:
        """Make a build with its manifest the artifact."""
        partial, final = self.partial(node), self.path(node)
        for name in discarded(partial):
            shutil.rmtree(partial / name, ignore_errors=True)
        (partial / DISCARDED).unlink(missing_ok=True)
        partial.rename(final)
        (final / LOCK).unlink(missing_ok=True)
        sync_folder(final.parent)

    def _describe(self, node: AnyNode, build: Build, seconds: float, **made_for: Any) -> None:
        """Write the manifest of a build, with the sums of its files."""
        for name in (PROGRESS, ENGINE, RUN):
            (build.path / name).unlink(missing_ok=True)
        for draft in build.path.rglob("*" + DRAFT):
            draft.unlink()  # left by a killed run; it must not be listed among the files
        payload = sorted(path for path in build.path.rglob("*") if _is_payload(path))
        payload = [path for path in payload if path.relative_to(build.path).parts[0] not in discarded(build.path)]
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
            files={
                path.relative_to(build.path).as_posix(): {"bytes": path.stat().st_size, "sha256": self.sums.of(path)}
                for path in payload
            },
        )
        write_manifest(build.path, manifest)

    def forget(self, node: AnyNode) -> None:
        """Delete a finished artifact, so that the next run makes it again."""
        if self.path(node).exists():
            doomed = self.path(node).with_name(self.path(node).name + DELETED)
            if doomed.exists():
                shutil.rmtree(doomed)  # the rest of a deletion that was killed
            self.path(node).rename(doomed)
            shutil.rmtree(doomed)

    def siblings(self, node: AnyNode) -> Iterator[Manifest]:
        """Yield the manifests of finished artifacts of the same name and another key: those of earlier configs. Damaged
        ones are left out: the command at hand does not need them."""
        for path in sorted(self.path(node).parent.glob(f"{node.name}-*/{MANIFEST}")):
            if path.parent != self.path(node) and path.parent.name == f"{node.name}-{path.parent.name[-10:]}":
                with suppress(ArtifactError):
                    yield read_manifest(path.parent)


def discard(folder: Path, names: Iterable[str]) -> None:
    """Let the folders of these names be no part of the artifact that is built in ``folder``. They are deleted when its
    manifest is written: a build that is killed before that goes on from them."""
    write_text(folder / DISCARDED, json.dumps(sorted(names)) + "\n")


def discarded(folder: Path) -> list[str]:
    """The names of the folders in a build that are no part of the artifact."""
    try:
        names = json.loads((folder / DISCARDED).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # of a damaged note nothing is discarded: more is kept than need be
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def verified_folder(path: Path) -> Path:
    """The folder of an artifact, wherever it is, whose files have the SHA-256 sums of its manifest.

    Raises:
        ArtifactError: the manifest is missing or damaged, or the files differ from it.
    """
    verify(path, read_manifest(path), Sums(path.parent.parent))
    return path


def verify(path: Path, manifest: Manifest, sums: Sums) -> None:
    """Compare all files of an artifact folder with the manifest.

    Raises:
        ArtifactError: they differ; the text names the first file that does, and the command that makes it again.
    """
    if (problem := next(changes(path, manifest, sums.of), None)) is not None:
        raise ArtifactError(f"{problem}{remedy(path, manifest)}")


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Write all log records to a file while the block runs."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
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
    return path.is_file() and path.name not in (LOCK, LOG, PROGRESS, ENGINE, RUN, DISCARDED)


def _identity(node: AnyNode) -> dict[str, Any]:
    """Return name and key of an input; for a source model (not made by a stage) also its spec."""
    return {"name": node.name, "key": node.key} | (asdict(node.spec) if node.is_source else {})
