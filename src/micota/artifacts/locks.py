"""Locks on files that the kernel frees when their process ends, by whatever cause."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from micota.errors import ArtifactError

LOCK = ".lock"
SHARED, EXCLUSIVE, AT_ONCE = fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_NB
TRIES = 100
Notice = Callable[[str], None]


@contextmanager
def building(folder: Path, notice: Notice) -> Iterator[None]:
    """Hold the build lock of a partial folder. If another process builds there, ``notice`` gets its id and machine, and
    this one waits for its end, whatever ends it.

    Raises:
        ArtifactError: the folder cannot be written to.
    """
    with _opened(folder, notice) as handle:
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {platform.node()}")
        handle.flush()
        yield


def _opened(folder: Path, notice: Notice) -> TextIO:
    removed = 0
    while True:
        try:
            _make(folder)
            handle = open(folder / LOCK, "a+", encoding="utf-8")
        except OSError as error:
            removed += 1
            if isinstance(error, FileNotFoundError) and removed < TRIES:
                continue  # the folder went away since it was made: another run was refused
            raise ArtifactError(
                f"cannot write to {folder} ({error.strerror}); choose a writable folder with artifacts=FOLDER"
            ) from error
        try:
            _take(handle, notice)
        except BaseException:  # Ctrl-C while it waits
            handle.close()
            raise
        if _exists(handle):
            return handle
        handle.close()  # its file went away with what the other run did: there is another one now


def builder_of(folder: Path) -> str | None:
    """The process that builds in a partial folder, as ``process ID on MACHINE``; None where no process does."""
    try:
        with open(folder / LOCK, encoding="utf-8") as handle:
            return _owner(handle) if is_locked(handle.fileno()) else None
    except OSError:
        return None


def _owner(handle: TextIO) -> str:
    handle.seek(0)
    return handle.read().strip() or "a process that has just begun"


def _make(folder: Path) -> None:
    """Make a folder that may be there, and that other processes may make and remove.

    Raises:
        OSError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        # mkdir also raises this where another process has removed the folder since, and perhaps made it again.
        if not folder.is_dir() and os.path.lexists(folder):
            raise


def _take(handle: TextIO, notice: Notice) -> None:
    """Lock a file for a build, after another one has ended. ``micota artifacts`` has the lock for microseconds, when it
    looks for builds that run: this is why there are several tries before ``notice``."""
    for _ in range(TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(handle, EXCLUSIVE | AT_ONCE)
            return
    notice(_owner(handle))
    fcntl.flock(handle, EXCLUSIVE)


def _exists(handle: TextIO) -> bool:
    """Whether an open file still has a name."""
    return os.fstat(handle.fileno()).st_nlink > 0


@contextmanager
def locked(path: Path, how: int) -> Iterator[None]:
    """Hold the lock of a file, which is made where it is missing.

    Raises:
        BlockingIOError: ``how`` has ``AT_ONCE``, and another process holds the lock.
        OSError: the file cannot be written to.
    """
    handle = _open_and_lock(path, how)
    with handle:
        yield


def _open_and_lock(path: Path, how: int) -> TextIO:
    for _ in range(TRIES):
        with suppress(FileNotFoundError), ExitStack() as stack:  # its folder went away since it was made
            _make(path.parent)
            handle = stack.enter_context(open(path, "a", encoding="utf-8"))
            fcntl.flock(handle, how)
            if _exists(handle):
                stack.pop_all()
                return handle
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def is_locked(descriptor: int) -> bool:
    """Whether another open file holds the lock of this one."""
    try:
        fcntl.flock(descriptor, SHARED | AT_ONCE)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
