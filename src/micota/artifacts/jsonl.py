"""Rows of artifacts as JSON lines, and atomic writes of files."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO, TypeVar

from micota.errors import DISK_IS_FULL, ArtifactError
from micota.visible import SURROGATE

OF_WRITES = (*DISK_IS_FULL, errno.EFBIG, errno.EIO)  # errors without the name of a file
DRAFT = ".tmp"  # suffix of a file that is being written

Row = TypeVar("Row")


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: readers get the old content or the new one, never a part."""
    with _replacing(path) as handle:
        handle.write(text)


def sync_folder(path: Path) -> None:
    """Make a rename in ``path`` durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """Write dataclass rows as JSONL, atomically and one at a time; returns the number of rows."""
    count = 0
    with _replacing(path) as handle:
        for count, row in enumerate(rows, start=1):  # noqa: B007 (counted)
            handle.write(json_line(asdict(row)))
    return count


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """A file that takes the place of ``path`` at the end of the block. After an error nothing of it is left.

    Raises:
        OSError: it cannot be written, for example on a full disk; the error names ``path``.
    """
    draft = path.with_name(path.name + DRAFT)
    try:
        with _own(draft), open(draft, "w", encoding="utf-8") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
            os.replace(draft, path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        if error.filename is not None or error.errno not in OF_WRITES:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _own(draft: Path) -> TextIO:
    """The lock of a draft, after other processes that write the same file: each would write into the draft of another.
    Its closing frees it."""
    while True:
        handle = open(draft, "a", encoding="utf-8")
        fcntl.flock(handle, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle.fileno()), draft.stat()):
                return handle
        handle.close()  # the draft that was waited for has taken its place


def json_line(row: Mapping[str, Any]) -> str:
    """Return a row as one line. Lone surrogates become escapes, as UTF-8 cannot encode them."""
    line = json.dumps(row, ensure_ascii=False) + "\n"
    return line if line.isascii() or not SURROGATE.search(line) else json.dumps(row) + "\n"


def read_jsonl(path: Path, row: Callable[..., Row]) -> list[Row]:
    """Read JSONL into a list of ``row`` (a dataclass).

    Raises:
        ArtifactError: a line is not an object of that shape; the text names the file and line.
    """
    return list(each_jsonl(path, row))


def each_jsonl(path: Path, row: Callable[..., Row]) -> Iterator[Row]:
    """Yield the rows of JSONL one at a time.

    Raises:
        ArtifactError: as of :func:`read_jsonl`.
    """
    with open(path, "rb") as handle:  # bytes: text mode would raise outside the loop for a line that is not UTF-8
        for number, line in enumerate(handle, start=1):
            yield parsed(line, f"{path}:{number}", row)


def parsed(line: bytes, where: str, row: Callable[..., Row]) -> Row:
    """Return a line as a row.

    Raises:
        ArtifactError: it is not an object of that shape.
    """
    try:
        return row(**json.loads(line))
    except (ValueError, TypeError, RecursionError) as error:  # not JSON, no object, or fields of another schema
        name = getattr(row, "__name__", row)
        raise ArtifactError(f"{where}: not a row of {name} ({error}); use the file as it was written") from error
