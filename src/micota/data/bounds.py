"""Rows of files in bounded memory: a compressed file of megabytes may hold rows of many gigabytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import psutil

from micota.artifacts.strict_json import repeated
from micota.errors import SourceError

MIB = 2**20
MAX_ROW = 128 * MIB  # bytes of one row; a hundred samples of 128,000 tokens take half of it
BATCH_ROWS, BATCH_BYTES = 256, 64 * MIB  # of Parquet that are read at once
REPEATED_BYTES = 512 * MIB  # of one batch, where rows repeat the longest text
VALUE_BYTES = 8  # that a value of Parquet takes at least, whatever it takes in the file
TIMES_IN_MEMORY = 10  # that a JSON document takes as objects of Python, of its size


class Lines:
    """The lines of a file, as bytes. ``num_bytes`` counts those since it was set to 0, by who has read a row.

    Raises:
        SourceError: while one row is read, more than ``MAX_ROW`` bytes come.
    """

    def __init__(self, handle: IO[bytes], path: Path) -> None:
        self._handle, self._path = handle, path
        self.num_bytes = self.number = 0

    def __iter__(self) -> Iterator[bytes]:
        while line := self._handle.readline(MAX_ROW + 1):
            self.number += 1
            self.num_bytes += len(line)
            if self.num_bytes > MAX_ROW:
                raise too_large(f"{self._path}:{self.number}")
            yield line


def too_large(where: str) -> SourceError:
    """The error for a row that is too large."""
    return SourceError(f"{where}: a row of more than {MAX_ROW // MIB} MiB; accepted: rows of at most that")


def whole(handle: IO[bytes], path: Path) -> bytes:
    """The content of a file that can only be read whole.

    Raises:
        SourceError: the memory of this machine may not suffice to parse it.
    """
    most = max(2 * MAX_ROW, int(psutil.virtual_memory().available) // TIMES_IN_MEMORY)
    content = handle.read(most + 1)
    if len(content) > most:
        raise SourceError(
            f"{path}: one JSON document of more than {most // MIB} MiB, which is read whole, and this machine has too "
            "little memory for it; accepted: JSON lines (.jsonl) or Parquet, of which a row is read at a time"
        )
    return content


def parquet_rows(handle: IO[bytes], path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of an open file of Parquet.

    Raises:
        SourceError: a row is too large, or a name of a column repeats.
    """
    from pyarrow import parquet

    with parquet.ParquetFile(handle) as file:
        if (twice := repeated(file.schema_arrow.names)) is not None:
            raise SourceError(f"{path}: it names {twice!r} twice; accepted: one column of a name")
        for index in range(file.num_row_groups):
            where, group = f"{path}, row group {index + 1}", file.metadata.row_group(index)
            for batch in file.iter_batches(batch_size=_batch_rows(group, where), row_groups=[index]):
                if batch.nbytes > MAX_ROW * batch.num_rows:
                    raise too_large(where)
                yield from batch.to_pylist()


def _batch_rows(group: Any, where: str) -> int:
    """The rows of a row group to read at once."""
    columns = [group.column(index) for index in range(group.num_columns)]
    sizes = [max(one.total_uncompressed_size, VALUE_BYTES * one.num_values) for one in columns]
    row = int(sum(sizes) // max(group.num_rows, 1))
    if row > MAX_ROW:
        raise too_large(where)
    # A text that many rows have stands in a dictionary once: each row of a batch may have the longest one.
    longest = sum(map(_dictionary_bytes, columns))
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(row, 1), REPEATED_BYTES // max(longest, 1)))


def _dictionary_bytes(column: Any) -> int:
    """The most bytes that the dictionary of a column chunk can have: its other pages have at least their compressed
    size."""
    if not column.has_dictionary_page:
        return 0
    first = column.data_page_offset - column.dictionary_page_offset
    return max(0, int(column.total_uncompressed_size - column.total_compressed_size + first))
