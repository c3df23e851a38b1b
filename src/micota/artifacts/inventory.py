"""What is below an artifacts folder, read from the folders alone: size, age, state, and what needs what."""

from __future__ import annotations

import difflib
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from micota.artifacts.in_use import cleaning, used
from micota.artifacts.locks import AT_ONCE, EXCLUSIVE, LOCK, is_locked, locked
from micota.artifacts.manifest import Manifest, damage, read_manifest
from micota.artifacts.store import DELETED, PARTIAL
from micota.errors import ArtifactError
from micota.graph.node import Spec
from micota.graph.specs import MERGED

FOLDER = re.compile(rf"(?P<name>.+)-(?P<key>[0-9a-f]{{10}})(?P<suffix>{re.escape(PARTIAL)}|{re.escape(DELETED)})?")
STATES = ("complete", "partial", "running", "damaged", "deleted")
POINTS, SWEEPS = "merge_points", "merge_sweeps"
NAMES_SHOWN = 8
Needs = Mapping[str, Iterable[str]]  # the folders of all artifacts of an experiment, and its points_of, by its name


@dataclass(frozen=True, kw_only=True)
class Item:
    """One artifact on disk.

    Args:
        folder: its path below the artifacts folder, without the suffix of an unfinished build.
        state: complete; partial: an unfinished build, which the next run continues; running: a build of a command
            that runs now; damaged: its manifest does not fit its files; deleted: the rest of an interrupted deletion.
        num_bytes: of all its files.
        changed: when it was finished or, if it is not complete, last written to.
        problem: what is wrong with a damaged artifact.
        needed_by: the folders of the artifacts that were made from it.
        experiments: the experiments that need it: those that were named, or the one of the run that made it.
        in_use: whether a command that runs now reads or makes it.
    """

    folder: str
    name: str
    key: str
    state: str
    path: Path
    num_bytes: int
    changed: datetime
    manifest: Manifest | None = None
    problem: str = ""
    needed_by: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    in_use: bool = False

    @property
    def kind(self) -> str:
        return self.folder.partition("/")[0]


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """All artifacts below a folder. ``others`` has the bytes of every folder there that holds no artifacts."""

    root: Path
    items: list[Item]
    others: dict[str, int] = field(default_factory=dict)

    def named(self, name: str) -> Item:
        """The one artifact of this name: ``NAME``, ``NAME-KEY``, ``KIND/NAME``, a key, or the path of its folder.

        A complete artifact goes before an unfinished build of the same name.

        Raises:
            ArtifactError: there is none, or several; the text lists similar names, or the several.
        """
        wanted = _below(self.root, name)
        hits = [item for item in self.items if wanted in _names(item)]
        hits = [item for item in hits if item.state == "complete"] or hits
        if len(hits) == 1:
            return hits[0]
        if not hits:
            raise ArtifactError(f"{name!r}: no such artifact in {self.root}; {_similar(wanted, self.items)}")
        shown = ", ".join(item.folder for item in hits[:NAMES_SHOWN])
        more = f" and {len(hits) - NAMES_SHOWN} more" if len(hits) > NAMES_SHOWN else ""
        raise ArtifactError(f"{name!r} names {len(hits)} artifacts; accepted: one of {shown}{more}")

    def by_key(self) -> dict[str, Item]:
        """Finished artifacts by key."""
        return {item.key: item for item in self.items if item.manifest is not None}


def take(root: Path, wanted: Needs | None = None) -> Inventory:
    """The inventory of an artifacts folder.

    Args:
        wanted: what each experiment needs; None takes the experiments from the manifests.

    Raises:
        ArtifactError: there is no such folder.
    """
    if not root.is_dir():
        raise ArtifactError(f"artifacts={str(root)!r}: there is no such folder; accepted: the folder of earlier runs")
    busy = used(root)
    items = [item for kind in sorted(kinds()) if (root / kind).is_dir() for item in _items_of(root / kind)]
    users = _users(items)
    items = [
        replace(
            item,
            needed_by=tuple(sorted(users[item.key])),
            experiments=_experiments(item, wanted),
            in_use=item.folder in busy or item.state == "running",
        )
        for item in items
    ]
    others = {path.name: size_of(path) for path in sorted(root.iterdir()) if path.is_dir() and path.name not in kinds()}
    return Inventory(root=root, items=items, others=others)


def kinds() -> set[str]:
    """The kinds of artifacts, each a folder; others, as that of reports, have folders of names like theirs."""
    found: set[str] = set()
    specs = list(Spec.__subclasses__())
    while specs:
        spec = specs.pop()
        specs += spec.__subclasses__()
        found.add(getattr(spec, "kind", ""))
    return found - {"", "source"}


def _items_of(kind: Path) -> Iterable[Item]:
    for path in sorted(kind.iterdir()):
        if (match := FOLDER.fullmatch(path.name)) and path.is_dir():
            with suppress(FileNotFoundError):  # finished or deleted meanwhile
                yield _item(kind.name, path, match["name"], match["key"], match["suffix"] or "")


def _item(kind: str, path: Path, name: str, key: str, suffix: str) -> Item:
    manifest, problem = None, ""
    state = {PARTIAL: "partial", DELETED: "deleted"}.get(suffix, "complete")
    changed = datetime.fromtimestamp(max(file.stat().st_mtime for file in (path, *path.rglob("*"))), UTC)
    if state == "complete":
        try:
            manifest = read_manifest(path)
            problem = damage(path, manifest) or ""
            changed = datetime.fromisoformat(manifest.finished_at)
        except ArtifactError as error:
            problem = str(error)
        state = "damaged" if problem else state
    elif state == "partial" and _is_running(path):
        state = "running"
    return Item(
        folder=f"{kind}/{name}-{key}", name=name, key=key, state=state, path=path, num_bytes=size_of(path),
        changed=changed, manifest=manifest, problem=problem,
    )  # fmt: skip


def _is_running(path: Path) -> bool:
    try:
        with open(path / LOCK, encoding="utf-8") as handle:
            return is_locked(handle.fileno())
    except OSError:
        return False


def size_of(path: Path) -> int:
    """The bytes of all files below a folder."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(folder) / name).lstat().st_size
    return total


def _users(items: Iterable[Item]) -> defaultdict[str, set[str]]:
    """By key, the folders of the artifacts that were made from it; of a point of a merge sweep, the sweeps."""
    users: defaultdict[str, set[str]] = defaultdict(set)
    sweeps: defaultdict[str, set[str]] = defaultdict(set)
    items = list(items)
    for item in items:
        for entry in item.manifest.inputs.values() if item.manifest else ():
            users[entry["key"]].add(item.folder)
        if item.kind == SWEEPS and item.manifest:
            sweeps[_points_of(item.manifest)].add(item.folder)
    for item in items:
        if item.kind == POINTS and item.manifest:
            users[item.key] |= sweeps[_points_of(item.manifest)]
    return users


def points_of(keys: Mapping[str, str]) -> str:
    """What stands for all points of a merge sweep: it makes them while it runs, so they are no nodes of the graph and
    no inputs in its manifest. ``keys`` are those of its inputs by label; the models that are merged are those of its
    points."""
    return f"{POINTS}: " + " ".join(f"{label}={key}" for label, key in sorted(keys.items()) if label in MERGED)


def _points_of(manifest: Manifest) -> str:
    return points_of({label: entry["key"] for label, entry in manifest.inputs.items()})


def _experiments(item: Item, wanted: Needs | None) -> tuple[str, ...]:
    if wanted is None:
        return (item.manifest.experiment,) if item.manifest and item.manifest.experiment else ()
    names = {item.folder}
    if item.kind == POINTS and item.manifest:
        names.add(_points_of(item.manifest))
    return tuple(name for name, folders in wanted.items() if not names.isdisjoint(folders))


def _below(root: Path, name: str) -> str:
    """A name, or the path of an artifact's folder as a path below ``root``."""
    path = Path(name).expanduser()
    with suppress(ValueError):
        return path.resolve().relative_to(root.resolve()).as_posix() if path.exists() else name.rstrip("/")
    return name.rstrip("/")


def _names(item: Item) -> set[str]:
    full = f"{item.name}-{item.key}"
    return {item.name, item.key, full, item.folder, f"{item.kind}/{item.name}", f"{item.kind}/{item.path.name}"}


def _similar(name: str, items: Sequence[Item]) -> str:
    known = {text for item in items for text in (item.name, item.key, item.folder)}
    close = difflib.get_close_matches(name, sorted(known), n=3)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    names = sorted({item.name for item in items})
    more = ", ..." if len(names) > NAMES_SHOWN else ""
    return f"accepted: {', '.join(names[:NAMES_SHOWN])}{more}" if names else "it holds no artifacts"


def delete(root: Path, choose: Callable[[Inventory], list[Item]], wanted: Needs | None = None) -> list[Item]:
    """Delete the chosen artifacts, except those that a running command reads or makes; returns the deleted ones.

    No command begins before the choice is carried out: each folder is renamed at once, and emptied afterwards.

    Raises:
        ArtifactError: a folder cannot be deleted.
    """
    doomed: list[tuple[Item, Path]] = []
    try:
        with cleaning(root):
            for item in choose(take(root, wanted)):
                if not item.in_use and (target := _set_aside(item)) is not None:
                    doomed.append((item, target))
        for _, target in doomed:
            shutil.rmtree(target)
    except OSError as error:
        raise ArtifactError(
            f"{error.filename or root} cannot be deleted ({error.strerror}); delete it as a user who may"
        ) from error
    return [item for item, _ in doomed]


def _set_aside(item: Item) -> Path | None:
    """Rename the folder of an artifact so that no command takes it for one; None if a build has just begun in it."""
    if item.state == "deleted":
        return item.path
    target = item.path.with_name(f"{item.name}-{item.key}{DELETED}")
    if target.exists():
        shutil.rmtree(target)
    if item.state != "partial":
        return item.path.rename(target)
    try:
        with locked(item.path / LOCK, EXCLUSIVE | AT_ONCE):
            (item.path / LOCK).unlink()  # a build that waits for this lock then makes a new folder
            return item.path.rename(target)
    except BlockingIOError:
        return None
