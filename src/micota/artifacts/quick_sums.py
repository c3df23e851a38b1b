"""Sums of the files that runs write for themselves: checkpoints and caches.

They are xxh3_128, which finds damage and, unlike SHA-256, keeps up with a fast disk: a run may write hundreds of
gigabytes of checkpoints an hour. Artifacts have SHA-256 in their manifests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xxhash

from micota.artifacts.jsonl import write_text

BLOCK = 2**22  # bytes


def sum_of_parts(parts: Iterable[Any]) -> str:
    """The sum of buffers, one after another."""
    digest = xxhash.xxh3_128()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def sum_of_file(path: Path) -> str:
    """The sum of a file."""
    with open(path, "rb") as handle:
        return sum_of_parts(iter(lambda: handle.read(BLOCK), b""))


def write_sums(file: Path, paths: Iterable[Path]) -> None:
    """Write the sums of files in the folder of ``file``, or below it."""
    sums = {path.relative_to(file.parent).as_posix(): sum_of_file(path) for path in paths}
    write_text(file, json.dumps(sums) + "\n")


def changed(file: Path) -> str | None:
    """What is wrong with the files whose sums are in ``file``, or with ``file``; None if nothing is."""
    try:
        sums = dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        return f"{file} is damaged ({error})"
    for name, value in sums.items():
        path = file.parent / name
        if not path.is_file():
            return f"{path} is missing"
        if sum_of_file(path) != value:
            return f"{path} is damaged: it is not what was written"
    return None
