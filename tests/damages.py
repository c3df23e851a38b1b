"""Ways to damage an artifact: its files, or its manifest."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from micota.artifacts.manifest import MANIFEST

Damage = Callable[[Path, Path, str], None]  # of an artifact, given another one and the name of a file


def flip(path: Path, other: Path, name: str) -> None:
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(content)


def flip_and_hide(path: Path, other: Path, name: str) -> None:
    before = (path / name).stat()
    flip(path, other, name)
    os.utime(path / name, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncate(path: Path, other: Path, name: str) -> None:
    os.truncate(path / name, 7)


def empty(path: Path, other: Path, name: str) -> None:
    os.truncate(path / name, 0)


def delete(path: Path, other: Path, name: str) -> None:
    (path / name).unlink()


def folder_instead(path: Path, other: Path, name: str) -> None:
    delete(path, other, name)
    (path / name).mkdir()


def zero(path: Path, other: Path, name: str) -> None:
    (path / name).write_bytes(bytes((path / name).stat().st_size))


def swap(path: Path, other: Path, name: str) -> None:
    shutil.copyfile(other / name, path / name)


def swap_folders(path: Path, other: Path, name: str) -> None:
    path.rename(path.with_name("aside"))
    other.rename(path)


def foreign(path: Path, other: Path, name: str) -> None:
    (path / name).with_name("foreign.safetensors").write_text("{}")


def edit(change: Callable[[dict[str, object]], object]) -> Damage:
    def edited(path: Path, other: Path, name: str) -> None:
        content = json.loads((path / MANIFEST).read_text())
        change(content)
        (path / MANIFEST).write_text(json.dumps(content, indent=2))

    return edited


def older(path: Path, other: Path, name: str) -> None:
    edit(lambda content: content.update(schema_version=2))(path, other, name)


def of_another(path: Path, other: Path, name: str) -> None:
    shutil.copyfile(other / MANIFEST, path / MANIFEST)


def cut_manifest(path: Path, other: Path, name: str) -> None:
    os.truncate(path / MANIFEST, (path / MANIFEST).stat().st_size // 2)


OF_FILES: dict[str, Damage] = {
    "flip": flip, "flip, time restored": flip_and_hide, "truncate": truncate, "empty": empty, "delete": delete,
    "folder": folder_instead, "zero": zero, "swap": swap, "foreign": foreign,
}  # fmt: skip
OF_MANIFESTS: dict[str, Damage] = {
    "folders swapped": swap_folders,
    "older schema": older,
    "of another": of_another,
    "manifest cut": cut_manifest,
    "manifest gone": lambda path, other, name: (path / MANIFEST).unlink(),
    "manifest empty": lambda path, other, name: os.truncate(path / MANIFEST, 0),
    "metric": edit(lambda content: content["metrics"].update(accuracy=0.9)),  # type: ignore[attr-defined]
    "seed": edit(lambda content: content.update(seed=7)),
    "file left out": edit(lambda content: content["files"].clear()),  # type: ignore[attr-defined]
    "field gone": edit(lambda content: content.pop("command")),
    "list": lambda path, other, name: (path / MANIFEST).write_text("[]") and None,
}
