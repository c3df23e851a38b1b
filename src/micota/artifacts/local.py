"""Local inputs: files and folders of the user, which their content identifies."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from micota.artifacts.manifest import LOG, MANIFEST, is_hidden, read_manifest
from micota.artifacts.provenance import files_below
from micota.artifacts.store import verify
from micota.artifacts.sums import Sums
from micota.graph.node import SCHEMA_VERSION

DIGITS = 16


def fingerprint(path: Path, sums: Sums) -> str:
    """Return the beginning of a hash that identifies a local input wherever it is: of a file its content, followed by
    its suffix, which sets the format; of a folder the names and contents of its files, without hidden ones.

    An artifact is compared with its manifest, which is not part of what identifies it.

    Raises:
        ArtifactError: it is a damaged artifact.
    """
    if path.is_file():
        packed = ".gz" if path.name.endswith(".gz") else ""
        return sums.of(path)[:DIGITS] + Path(path.name.removesuffix(packed)).suffix + packed
    is_artifact = _is_artifact(path)
    if is_artifact:
        verify(path, read_manifest(path), sums)
    left_out = {MANIFEST, LOG} if is_artifact else set()
    files = {file.relative_to(path): file for file in files_below(path) if file.is_file()}
    listing = [
        (name.as_posix(), sums.of(file))
        for name, file in sorted(files.items())
        if not is_hidden(name) and name.as_posix() not in left_out
    ]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:DIGITS]


def _is_artifact(folder: Path) -> bool:
    """Whether a folder has a manifest as this version writes them; another program may call a file like that."""
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return isinstance(content, dict) and content.get("schema_version") == SCHEMA_VERSION and "files" in content
    return False
