"""The manifest of an artifact: what it is, how it was made, and the sizes and sums of its files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from micota.artifacts.jsonl import write_text
from micota.artifacts.provenance import files_below
from micota.errors import ArtifactError
from micota.graph.node import SCHEMA_VERSION
from micota.shell import is_own_line, quoted

MANIFEST = "manifest.json"
LOG = "log.txt"
KEY = re.compile(r".+-[0-9a-f]{10}")  # the name of an artifact's folder
SHOWN = 12  # digits of a sum


class OtherSchemaError(ArtifactError):
    """An artifact of another version of micota, which is not damaged."""


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
    sum: str = ""  # of all other fields (see sum_of); empty in a manifest of an earlier version


def sum_of(content: Mapping[str, Any]) -> str:
    """The SHA-256 of a manifest's fields as canonical JSON, without that of ``sum``."""
    fields = {name: value for name, value in content.items() if name != "sum"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of an artifact, with its sum."""
    content = json.loads(json.dumps(asdict(manifest)))  # as a reader gets it: keys of maps are texts
    write_text(folder / MANIFEST, json.dumps(content | {"sum": sum_of(content)}, indent=2) + "\n")


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the artifact folder ``path``.

    Raises:
        ArtifactError: missing, damaged, of another schema version, or that of another artifact.
    """
    file = path / MANIFEST
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} has no {MANIFEST}: it is not a finished artifact{remedy(path)}") from None
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{file} is not valid JSON ({error}){remedy(path)}") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise OtherSchemaError(
            f"{path} has artifact schema {version}, this version of micota reads schema {SCHEMA_VERSION}: "
            "delete the folder and run again, or use the version of micota that made it"
        )
    if content.get("sum", "") not in ("", sum_of(content)):
        raise ArtifactError(f"{file} was changed: its fields do not have the sum that it states{remedy(path)}")
    try:
        manifest = Manifest(**content)
        _check(manifest)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ArtifactError(f"{file} does not fit its schema ({error}){remedy(path)}") from error
    if KEY.fullmatch(path.name) and path.name != f"{manifest.name}-{manifest.key}":
        raise ArtifactError(f"{file} is that of {manifest.name}-{manifest.key}, another artifact{remedy(path)}")
    return manifest


def _check(manifest: Manifest) -> None:
    """Refuse a manifest that no version of micota writes. Whoever can write to a folder that users share can make one
    with a right sum: with files elsewhere, which an upload would publish, or a command to paste.

    Raises:
        ValueError, TypeError, AttributeError, KeyError: a field has another form.
    """
    for name, entry in manifest.files.items():
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or not isinstance(entry["sha256"], str):
            raise ValueError(f"it lists the file {name!r}; accepted: files of the folder, each with its SHA-256")
        entry["bytes"] + 0
    for label, child in manifest.inputs.items():
        if not isinstance(child["name"], str) or not isinstance(child["key"], str):
            raise ValueError(f"the input {label!r} has no name or no key")
    for name, value in {**manifest.counts, **manifest.metrics}.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} is {value!r}; accepted: a number")
    datetime.fromisoformat(manifest.finished_at)
    if manifest.command and not is_own_line(manifest.command):
        raise ValueError(f"its command is {manifest.command!r}; accepted: a line of micota")


def remedy(path: Path, manifest: Manifest | None = None) -> str:
    """The end of an error about a damaged artifact: how it is made again."""
    command = manifest.command if manifest is not None else ""
    again = f"rm -r {quoted(str(path))}" + (f" && {command}" if command else "")
    return f": the artifact is damaged. Make it again:  {again}" + ("" if command else "  and run the same command")


def damage(path: Path, manifest: Manifest) -> str | None:
    """What is wrong with the files of an artifact folder: one is missing or of another size; None if nothing is."""
    for name, entry in manifest.files.items():
        size = (path / name).stat().st_size if (path / name).is_file() else None
        if size != entry["bytes"]:
            seen = "is missing" if size is None else f"has {size} bytes"
            return f"{path / name} {seen}, its manifest has {entry['bytes']}"
    return None


def changes(
    path: Path, manifest: Manifest, sum_of_file: Callable[[Path], str], besides: Collection[str] = ()
) -> Iterator[str]:
    """All differences between the files of an artifact folder and its manifest, a text each.

    Files whose names begin with a dot, which nothing reads, may be there without being in the manifest.

    Args:
        sum_of_file: the SHA-256 of a file.
        besides: other files and folders that may be there.
    """
    if (problem := damage(path, manifest)) is not None:
        yield problem
        return
    for name, entry in manifest.files.items():
        if (seen := sum_of_file(path / name)) != entry["sha256"]:
            yield f"{path / name} has the SHA-256 {seen[:SHOWN]}..., its manifest has {entry['sha256'][:SHOWN]}..."
    known = {MANIFEST, LOG, *manifest.files}
    for file in files_below(path):
        below = file.relative_to(path)
        is_known = below.as_posix() in known or below.parts[0] in besides
        if not is_known and not is_hidden(below):
            yield f"{file} is not in the manifest of the artifact"


def is_hidden(name: Path) -> bool:
    """Whether a part of a relative path begins with a dot."""
    return any(part.startswith(".") for part in name.parts)
