"""Rows of artifacts as JSON lines, and files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from micota.errors import ArtifactError

DRAFT = ".tmp"  # suffix of a file that is being written


Row = TypeVar("Row")


_SURROGATE = re.compile("[\ud800-\udfff]")


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: it has the old content or the new one, never a part."""
    draft = path.with_name(path.name + DRAFT)
    with open(draft, "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(draft, path)


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """Write dataclass rows as JSONL, atomically; returns how many."""
    lines = [json_line(asdict(row)) for row in rows]
    write_text(path, "".join(lines))
    return len(lines)


def json_line(row: Mapping[str, Any]) -> str:
    """A row as one line. Lone surrogates, which UTF-8 cannot hold, are written as escapes."""
    line = json.dumps(row, ensure_ascii=False) + "\n"
    return line if line.isascii() or not _SURROGATE.search(line) else json.dumps(row) + "\n"


def read_jsonl(path: Path, row: Callable[..., Row]) -> list[Row]:
    """Read JSONL into ``row`` (a dataclass).

    Raises:
        ArtifactError: a line is not an object of that shape; the text names the file and line.
    """
    rows = []
    with open(path, "rb") as handle:  # bytes: a line that is not UTF-8 must not end the loop from outside
        for number, line in enumerate(handle, start=1):
            try:
                rows.append(row(**json.loads(line)))
            except (ValueError, TypeError) as error:  # no JSON, no object, or fields of another schema
                raise ArtifactError(
                    f"{path}:{number}: not a row of {getattr(row, '__name__', row)} ({error})"
                ) from error
    return rows


class JsonlAppender:
    """Append dataclass rows to a JSONL file that survives ``kill -9``: a torn last line is cut off when reopened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = open(path, "ab+", buffering=0)  # what is not written must not wait to be written later
        self._handle.seek(0)
        content = self._handle.readall()
        self._size = content.rfind(b"\n") + 1
        self._handle.truncate(self._size)

    def append(self, rows: Iterable[Any]) -> None:
        """Append rows and hand them to the operating system at once: all of them, or none.

        Raises:
            ArtifactError: they could not be written, as on a full disk.
        """
        content = "".join(json_line(asdict(row)) for row in rows).encode()
        try:
            written = 0
            while written < len(content):
                written += self._handle.write(content[written:])
        except OSError as error:
            self._handle.truncate(self._size)
            raise ArtifactError(
                f"cannot append to {self._path} ({error.strerror}); what it has is kept: free some space and run the "
                "same command again"
            ) from error
        self._size += len(content)

    def close(self) -> None:
        os.fsync(self._handle.fileno())
        self._handle.close()
