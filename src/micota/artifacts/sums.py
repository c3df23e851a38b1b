"""SHA-256 sums of files, computed once for each state of a file, so that a large model costs nothing the second time.

A state is the inode, the size, and the times of the last change of content and of attributes. The sums are remembered
in a file below the artifacts folder. It may be deleted: the files are then hashed again.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from micota.artifacts.provenance import sha256

REMEMBERED = ".sums.jsonl"
MAX_BYTES = 16 * 2**20  # of the file of sums, about 100,000 of them; then it begins anew
# The clock of file systems ticks every 4 to 10 ms: a second change within one tick would leave the state as it was.
TICK_NS = 20_000_000

State = tuple[int, int, int, int]


def state_of(path: Path) -> State:
    """The state of a file: inode, size in bytes, and times of the last change of content and of attributes in ns."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


@cache
def sums_below(root: Path) -> Sums:
    """The sums that this process remembers for an artifacts folder."""
    return Sums(root)


class Sums:
    """The SHA-256 sums of files, remembered below ``root``; where it cannot be written to, in this process alone."""

    def __init__(self, root: Path) -> None:
        self._file = root / REMEMBERED
        self._known: dict[State, str] = {}
        self._num_read = 0  # bytes

    def of(self, path: Path) -> str:
        """The sum of a file, in hexadecimal."""
        before = state_of(path)
        if before not in self._known:
            self._read()
        if before in self._known:
            return self._known[before]
        value = sha256(path)
        if state_of(path) == before and time.time_ns() - before[-1] > TICK_NS:
            self._known[before] = value
            self._remember(before, value)
        return value

    def _read(self) -> None:
        """Read what this and other processes have remembered since the last time. Damaged lines are left out."""
        with suppress(OSError), open(self._file, "rb") as handle:
            if os.fstat(handle.fileno()).st_size < self._num_read:
                self._num_read = 0  # it has begun anew
            handle.seek(self._num_read)
            content = handle.read()
            self._num_read += len(content)
            for line in content.splitlines():
                with suppress(ValueError, TypeError):
                    state, value = json.loads(line)
                    inode, size, changed, touched = map(int, state)
                    if len(bytes.fromhex(value)) == 32:
                        self._known[inode, size, changed, touched] = value

    def _remember(self, state: State, value: str) -> None:
        if not self._file.parent.is_dir():  # a plan makes no folder
            return
        line = f"\n{json.dumps([state, value])}\n".encode()  # an empty line ends one that a killed process left torn
        with suppress(OSError):
            if self._file.exists() and self._file.stat().st_size > MAX_BYTES:
                self._file.unlink()
            with open(self._file, "ab", buffering=0) as handle:
                handle.write(line)
