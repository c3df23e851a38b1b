"""The artifacts that running commands use, so that cleaning leaves them alone.

A command lists the artifacts that it reads and makes in a file below ``.running``, and locks this file until it ends.
The file of a killed command is no longer locked and does not count. Whoever deletes artifacts holds the lock of the
whole folder: no command begins to use an artifact between the decision to delete it and its deletion.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import secrets
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

from micota.artifacts.locks import AT_ONCE, EXCLUSIVE, LOCK, SHARED, is_locked, locked

RUNNING = ".running"


class InUse:
    """While it is open, the artifacts of one command are protected from cleaning.

    It writes nothing below a root that does not exist, as nothing is there to protect: ``begin`` is called again when
    something is. A root that cannot be written to needs no protection.
    """

    def __init__(self, root: Path, folders: Iterable[str]) -> None:
        self._root = root
        self._folders = sorted(set(folders))
        self._stack = ExitStack()
        self._has_begun = False

    def __enter__(self) -> InUse:
        self.begin()
        return self

    def begin(self) -> None:
        """Protect the artifacts from now on, if the root exists."""
        if not self._has_begun and self._root.is_dir():
            self._has_begun = True
            with suppress(OSError):
                self._stack.enter_context(_listed(self._root / RUNNING, self._folders))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()


@contextmanager
def _listed(place: Path, folders: list[str]) -> Iterator[None]:
    file = place / f"{platform.node()}-{os.getpid()}-{secrets.token_hex(2)}.json"
    with ExitStack() as stack:
        stack.callback(_tidy, place)
        with locked(place / LOCK, SHARED):
            handle = stack.enter_context(open(file, "w", encoding="utf-8"))
            stack.callback(file.unlink, missing_ok=True)
            fcntl.flock(handle, EXCLUSIVE)
            json.dump(folders, handle)
            handle.flush()
        yield


@contextmanager
def cleaning(root: Path) -> Iterator[None]:
    """Keep commands from starting during the block."""
    place = root / RUNNING
    with locked(place / LOCK, EXCLUSIVE):
        _remove_killed(place)
        yield
    _tidy(place)


def used(root: Path) -> set[str]:
    """The folders, below ``root``, of all artifacts that running commands read or make."""
    folders: set[str] = set()
    for file in (root / RUNNING).glob("*.json"):
        # A file may vanish or be half-written: its command begins or ends at this moment.
        with suppress(FileNotFoundError, ValueError), open(file, encoding="utf-8") as handle:
            if is_locked(handle.fileno()):
                folders.update(json.load(handle))
    return folders


def _remove_killed(place: Path) -> None:
    """Remove the files of commands that were killed."""
    for file in place.glob("*.json"):
        with suppress(FileNotFoundError), open(file, encoding="utf-8") as handle:  # its command ends now
            if not is_locked(handle.fileno()):
                file.unlink()


def _tidy(place: Path) -> None:
    """Remove the folder of running commands after the last of them, with what killed ones left there."""
    with suppress(OSError), locked(place / LOCK, EXCLUSIVE | AT_ONCE):
        _remove_killed(place)
        if not any(place.glob("*.json")):
            (place / LOCK).unlink()
            place.rmdir()
