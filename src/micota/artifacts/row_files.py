"""Rows of JSONL that stay on the disk, each read when it is needed: long texts of many rows do not fit into memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, TypeVar

from micota.artifacts.jsonl import json_line, parsed
from micota.errors import ArtifactError

Row = TypeVar("Row")
Item = TypeVar("Item")
MAX_ROWS = 256  # of a chunk
MAX_CHARACTERS = 1_000_000  # of a chunk: as tokens they take a hundred times as many bytes


class StoredExample(NamedTuple):
    """A training example without its texts, which are in the row at ``position`` of ``file``."""

    problem_id: str
    num_tokens: int
    source: str
    file: int
    position: int


class RowFiles:
    """Files of rows by number, and rows in them by the position of their first byte; a context manager."""

    def __init__(self) -> None:
        self._files: list[tuple[str, IO[bytes]]] = []
        self._stack = ExitStack()

    def __enter__(self) -> RowFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def open(self, path: Path) -> int:
        """Return the number of a file."""
        self._files.append((str(path), self._stack.enter_context(open(path, "rb"))))
        return len(self._files) - 1

    def temporary(self, folder: Path) -> int:
        """Return the number of an empty file without a name on the disk of ``folder``, which ends with this object."""
        self._files.append((str(folder), self._stack.enter_context(tempfile.TemporaryFile(dir=folder))))
        return len(self._files) - 1

    def append(self, file: int, row: Any) -> int:
        """Append a dataclass row to a temporary file, and return its position.

        Raises:
            ArtifactError: the disk is full.
        """
        name, handle = self._files[file]
        try:
            position = handle.seek(0, 2)
            handle.write(json_line(asdict(row)).encode())
            handle.flush()  # so that a full disk is an error here
        except OSError as error:
            raise ArtifactError(
                f"cannot write rows below {name} ({error.strerror}); free some space and run the same command again"
            ) from error
        return position

    def each(self, file: int, row: Callable[..., Row]) -> Iterator[tuple[int, Row]]:
        """Yield all rows of a file, each with its position.

        Raises:
            ArtifactError: a line is no such row; the text names the file and line.
        """
        name, handle = self._files[file]
        position, number = 0, 0
        while True:
            handle.seek(position)  # other rows may have been read meanwhile
            line = handle.readline()
            if not line:
                return
            number += 1
            yield position, parsed(line, f"{name}:{number}", row)
            position += len(line)

    def read(self, file: int, position: int, row: Callable[..., Row]) -> Row:
        """Return the row at a position.

        Raises:
            ArtifactError: the file has changed since the position was taken.
        """
        name, handle = self._files[file]
        handle.seek(position)
        return parsed(handle.readline(), f"{name}, byte {position}", row)


def chunks(items: Iterable[Item], num_characters: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Yield items in lists of at most ``MAX_ROWS`` with at most ``MAX_CHARACTERS``; a longer item is alone."""
    chunk: list[Item] = []
    total = 0
    for item in items:
        size = num_characters(item)
        if chunk and (len(chunk) == MAX_ROWS or total + size > MAX_CHARACTERS):
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += size
    if chunk:
        yield chunk
