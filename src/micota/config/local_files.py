"""Files and folders that a config names: which of them can be read at all."""

from __future__ import annotations

import errno
import os
import stat
from itertools import islice
from pathlib import Path

MOST_FILES = 100_000  # of a folder of inputs, each of which is hashed
_SPECIAL = {
    stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def special(path: Path) -> str | None:
    """What a path is that is neither a file nor a folder, in words: a reader of a pipe or a device may never end. None
    for files, folders, and what is not there."""
    try:
        return _SPECIAL.get(stat.S_IFMT(path.stat().st_mode))
    except (OSError, ValueError):
        return None


def text_of_file(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file.

    Raises:
        OSError: it cannot be read, or is a pipe or a device.
        UnicodeDecodeError: it is no text of this encoding.
    """
    if (kind := special(path)) is not None:
        raise OSError(errno.EINVAL, f"it is {kind}", str(path))
    return path.read_text(encoding=encoding)


def is_huge(folder: Path) -> bool:
    """Whether a folder has more than ``MOST_FILES`` files, as ``/`` has."""
    files = (name for _, _, names in os.walk(folder) for name in names)
    return next(islice(files, MOST_FILES, None), None) is not None


def no_folder(path: Path) -> str | None:
    """What stands where a folder is to be, in words: the path, or one above it, is there and no folder. None where the
    folder is there or can be made, as far as the paths show it."""
    try:
        for here in (path, *path.parents):
            if here.is_dir():
                return None
            if os.path.lexists(here):
                kind = special(here) or ("a file" if here.exists() else "a link that leads nowhere")
                return f"{str(here)!r} is {kind}"
    except ValueError:  # of a character that no path has
        return f"{str(path)!r} is no path"
    return None
