"""Rows that are appended while a run goes on, so that the next run goes on after them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from micota.artifacts.jsonl import json_line
from micota.artifacts.row_sums import RowSums
from micota.errors import ArtifactError

BLOCK = 2**20  # bytes that are read at once


def _end_of_lines(handle: IO[bytes]) -> int:
    """Return the position after the last line break of a file, 0 without one. It is read from its end, in blocks."""
    end = handle.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - BLOCK)
        handle.seek(start)
        found = handle.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


class JsonlAppender:
    """Append dataclass rows to a JSONL file that survives ``kill -9``: a torn last line is cut off when reopened.

    Rows that have been damaged since a killed run appended them are cut out too, so that they are made again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sums = RowSums(path)
        with open(path, "ab+", buffering=0) as handle:
            handle.truncate(size := _end_of_lines(handle))
        self._size = self._sums.keep_whole(size)
        self._handle = open(path, "ab", buffering=0)  # no buffer: after a failed write nothing is flushed later

    def append(self, rows: Iterable[Any]) -> None:
        """Append rows without buffering: all of them, or none.

        Raises:
            ArtifactError: the write failed, for example on a full disk.
        """
        content = "".join(json_line(asdict(row)) for row in rows).encode()
        try:
            num_bytes = 0
            while num_bytes < len(content):
                num_bytes += self._handle.write(content[num_bytes:])
            if content:
                self._sums.add(self._size, content)
        except OSError as error:
            self._handle.truncate(self._size)
            raise ArtifactError(
                f"cannot append to {self._path} ({error.strerror}); earlier rows are kept: free some space and run the "
                "same command again"
            ) from error
        self._size += len(content)

    def close(self) -> None:
        """End the file. From now on its rows have no sums of their own: a manifest is to have that of the file."""
        os.fsync(self._handle.fileno())
        self._handle.close()
        self._sums.close()
