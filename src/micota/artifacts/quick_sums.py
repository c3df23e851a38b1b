"""Sums of the files that runs write for themselves: checkpoints and caches.

They are xxh3_128, which finds damage and, unlike SHA-256, keeps up with a fast disk: a run may write hundreds of
gigabytes of checkpoints an hour. Artifacts have SHA-256 in their manifests.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import xxhash

from micota.artifacts.jsonl import write_text

BLOCK = 2**22  # bytes
logger = logging.getLogger(__name__)


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


def write_summed(file: Path, values: Mapping[str, float]) -> None:
    """Write numbers by name, with their sum in the same file."""
    content = dict(values)
    write_text(file, json.dumps({"values": content, "sum": _sum_of_values(content)}, indent=2) + "\n")


def read_summed(file: Path) -> dict[str, float] | None:
    """The numbers of a file of :func:`write_summed`; None if there is no such file. A damaged one counts as none, and
    is named in the log."""
    if not file.exists():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        values: dict[str, float] = content["values"]
        if content["sum"] == _sum_of_values(values):
            return values
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    logger.warning("%s is damaged: computed again", file)
    return None


def _sum_of_values(values: Mapping[str, float]) -> str:
    return sum_of_parts([json.dumps(values, sort_keys=True).encode()])


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
