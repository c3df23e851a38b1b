"""Sums of the rows that a run appends, so that a run that goes on does not take damaged rows for its own.

Beside the file of rows is a hidden one with a line for each append: where it begins, its bytes, and its xxh3_128. It is
deleted with the last append; from then on the manifest has the sum of the whole file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from micota.artifacts.quick_sums import BLOCK, sum_of_parts

logger = logging.getLogger(__name__)


class Part(NamedTuple):
    """Bytes that were appended at once."""

    start: int
    size: int
    sum: str

    @property
    def end(self) -> int:
        return self.start + self.size


class RowSums:
    """The sums of the parts of one file of rows."""

    def __init__(self, rows: Path) -> None:
        self._rows = rows
        self._file = rows.with_name(f".{rows.name}.sums")
        self._handle: IO[bytes] | None = None

    def add(self, start: int, content: bytes) -> None:
        """Note an append that has been written.

        Raises:
            OSError: the note cannot be written, for example on a full disk.
        """
        self._write(Part(start, len(content), sum_of_parts([content])))

    def _write(self, part: Part) -> None:
        if self._handle is None:
            self._handle = open(self._file, "ab", buffering=0)
        # A line break first: it ends a line that a killed run left torn.
        self._handle.write(f"\n{part.start} {part.size} {part.sum}\n".encode())

    def keep_whole(self, size: int) -> int:
        """Cut damaged parts, and what no note has, out of the first ``size`` bytes of the rows; returns the bytes that
        stay. A file without notes, of an earlier version, stays as it is."""
        parts = list(self._read())
        if not parts:
            return size
        with open(self._rows, "rb") as handle:
            whole = [part for part in parts if part.end <= size and _sum(handle, part) == part.sum]
            before = min(parts[0].start, size)  # rows of an earlier version
            kept = before + sum(part.size for part in whole)
            if len(whole) == len(parts) and kept == size:
                return size
            self._rewrite(handle, before, whole)
        if len(whole) < len(parts):
            logger.warning("%s: %d of %d parts were damaged, and are made again", self._rows, len(parts) - len(whole),
                           len(parts))  # fmt: skip
        return kept

    def _rewrite(self, handle: IO[bytes], before: int, whole: list[Part]) -> None:
        """Put the kept parts together. The rows are replaced first: a run that is killed before its notes are replaced
        has notes that do not fit, and cuts more than is damaged."""
        draft = self._rows.with_name(self._rows.name + ".tmp")
        with open(draft, "wb") as new:
            for start, size in [(0, before), *((part.start, part.size) for part in whole)]:
                for block in _blocks(handle, start, size):
                    new.write(block)
            new.flush()
            os.fsync(new.fileno())
        notes, at = [], before
        for part in whole:
            notes.append(f"{at} {part.size} {part.sum}\n")
            at += part.size
        self._file.with_name(self._file.name + ".tmp").write_text("".join(notes), encoding="ascii")
        os.replace(draft, self._rows)
        os.replace(self._file.with_name(self._file.name + ".tmp"), self._file)

    def _read(self) -> Iterator[Part]:
        """The notes, in their order; torn and damaged lines are none."""
        if not self._file.is_file():
            return
        end = -1
        for line in self._file.read_bytes().splitlines():
            with suppress(ValueError):
                start, size, value = line.split()
                part = Part(int(start), int(size), value.decode("ascii"))
                if part.size > 0 and part.start >= max(end, 0):
                    end = part.end
                    yield part

    def close(self) -> None:
        """Delete the notes."""
        if self._handle is not None:
            self._handle.close()
        self._file.unlink(missing_ok=True)


def _sum(handle: IO[bytes], part: Part) -> str:
    return sum_of_parts(_blocks(handle, part.start, part.size))


def _blocks(handle: IO[bytes], start: int, size: int) -> Iterator[bytes]:
    """The bytes of a part, a block at a time."""
    handle.seek(start)
    while size > 0 and (block := handle.read(min(size, BLOCK))):
        size -= len(block)
        yield block
