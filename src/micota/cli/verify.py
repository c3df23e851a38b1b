"""``micota artifacts verify``: it hashes the files of artifacts again and compares them with their manifests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from micota.artifacts.inventory import Inventory, Item
from micota.artifacts.manifest import changes, read_manifest, remedy
from micota.artifacts.provenance import sha256
from micota.errors import USER_ERROR, ArtifactError


def verify(inventory: Inventory, names: Sequence[str], console: Console, *, as_json: bool) -> int:
    """Print what is wrong with artifacts, and return the exit code: 0 if nothing is.

    Every file is hashed, also one whose sum is remembered: a disk may lose bits of a file that nobody changed.

    Args:
        names: those to check; empty for all finished ones.

    Raises:
        ArtifactError: a name names none, or several.
    """
    items = [inventory.named(name) for name in names] or inventory.items
    items = [item for item in items if item.state in ("complete", "damaged")]
    problems = {item.folder: list(_problems(item)) for item in items}
    damaged = [item for item in items if problems[item.folder]]
    if as_json:
        print(json.dumps(problems, indent=2))
        return USER_ERROR if damaged else 0
    for item in damaged:
        *lines, last = problems[item.folder]
        for line in lines:
            console.print(Text(line, "yellow"), soft_wrap=True)
        console.print(Text(last + _remedy(item, last), "yellow"), soft_wrap=True)
    old = sum(item.manifest is not None and not item.manifest.sum for item in items)
    note = f"; {old} have manifests without a sum, of an earlier version" if old else ""
    console.print(Text(f"{len(items)} artifacts verified, {len(damaged)} damaged{note}", "bold"))
    return USER_ERROR if damaged else 0


def _problems(item: Item) -> Iterator[str]:
    """All that is wrong with an artifact, a text each."""
    try:
        yield from changes(item.path, read_manifest(item.path), sha256)
    except ArtifactError as error:
        yield str(error)


def _remedy(item: Item, problem: str) -> str:
    """How to make an artifact again, where the text of the problem does not say it."""
    return "" if "Make it again" in problem or item.manifest is None else remedy(item.path, item.manifest)
