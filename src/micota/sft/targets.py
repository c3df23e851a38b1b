"""Stored log-probabilities of a teacher: files of bounded size, of which training reads the rows of a micro-batch.

A row is a learnt token. Rows are in the order of the examples of the data, and within an example in that of its labels.
A file holds the rows of consecutive examples: ``log_p`` (rows x (k + 1), the k most likely tokens and then all others
together) and ``ids`` (rows x k, int32). The index has the number of rows before the end of each example (``ends``) and
before each file (``starts``).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from micota.artifacts.jsonl import sync_folder
from micota.artifacts.quick_sums import sum_of_parts
from micota.sft.divergences import Events
from micota.sft.packing import IGNORED, Batch, Tokens

FILE_BYTES = 2**28  # of one file at most, unless one example has more; as much is in memory while it is made
INDEX = "index.safetensors"
NUMBERS = "targets"  # in a batch: the row of each label, aligned with it
TYPES = {"float32": torch.float32, "float16": torch.float16}
SUM = "tokens"  # in the header of the index: the sum of the tokens of all examples
CONTENT = "xxh3_128"  # in the header of a file of rows
logger = logging.getLogger(__name__)


def file_of(folder: Path, number: int) -> Path:
    """The file of rows with this number, from 0."""
    return folder / f"rows-{number:05}.safetensors"


def ends_of(counts: Sequence[int]) -> np.ndarray[Any, Any]:
    """The number of rows before the end of each example (int64), from the rows of each."""
    ends: np.ndarray[Any, Any] = np.cumsum(counts, dtype=np.int64)
    return ends


def files_of(ends: np.ndarray[Any, Any], each: int) -> Iterator[range]:
    """The examples of each file.

    Args:
        each: bytes of a row.
    """
    first = 0
    while first < len(ends):
        before = int(ends[first - 1]) if first else 0
        fitting = int(np.searchsorted(ends, before + FILE_BYTES // each, side="right"))
        last = max(first + 1, fitting)
        yield range(first, last)
        first = last


def save(path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, str] | None = None) -> None:
    """Write tensors to a file that is complete or absent."""
    draft = path.with_name(path.name + ".tmp")
    save_file(dict(tensors), draft, dict(header or {}))
    with open(draft, "rb") as handle:
        os.fsync(handle.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def save_rows(path: Path, key: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a file of rows of the artifact with this key, with its sum."""
    save(path, tensors, {CONTENT: _sum(path, key, tensors)})


def has_rows(path: Path, key: str) -> bool:
    """Whether a killed run has left the file of rows, whole. One that is damaged is named in the log."""
    if not path.exists():
        return False
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            if (file.metadata() or {}).get(CONTENT) == _sum(path, key, tensors):
                return True
    except (SafetensorError, OSError):
        pass
    logger.warning("%s is damaged: computed again", path)
    return False


def _sum(path: Path, key: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """The sum of the tensors of a file and of whose they are."""
    parts = [(f"{name} {one.dtype} {tuple(one.shape)} ".encode(), one.numpy().data) for name, one in tensors.items()]
    return sum_of_parts([f"{key} {path.name} ".encode(), *(part for pair in sorted(parts) for part in pair)])


class StoredTargets:
    """The stored log-probabilities in a folder. Rows are read as they are used; none stay in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with safe_open(folder / INDEX, "pt") as file:
            self._starts = file.get_tensor("starts").numpy()
            self.ends = file.get_tensor("ends").numpy()
            self.tokens = (file.metadata() or {})[SUM]
        self._files: dict[int, Any] = {}

    @property
    def first_rows(self) -> list[int]:
        """For each example of the data, the row of its first label."""
        rows: list[int] = [0, *self.ends[:-1].tolist()]
        return rows

    def events(self, rows: torch.Tensor, vocabulary: int) -> Events:
        """The events of the rows of some labels, in float32, on the CPU.

        Args:
            rows: row numbers (int64, 1-d). ``vocabulary``: tokens of the student, padding of its head included.
        """
        log_p, ids = zip(*map(self._read, *_runs(rows.numpy(), self._starts)), strict=True)
        return Events(torch.cat(log_p).float(), vocabulary, torch.cat(ids).long())

    def _read(self, number: int, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
        if number not in self._files:
            self._files[number] = safe_open(file_of(self._folder, number), "pt")
        log_p, ids = (self._files[number].get_slice(name)[first:last] for name in ("log_p", "ids"))
        return log_p, ids


def _runs(rows: np.ndarray[Any, Any], starts: np.ndarray[Any, Any]) -> tuple[list[int], list[int], list[int]]:
    """The runs of consecutive rows within one file, in order: the number of each one's file, and its first row and that
    after its last, counted in the file. One empty run where there are no rows."""
    if not len(rows):
        return [0], [0], [0]
    numbers = np.searchsorted(starts, rows, side="right") - 1
    breaks = 1 + np.flatnonzero((np.diff(rows) != 1) | (np.diff(numbers) != 0))
    firsts, lasts = np.concatenate([[0], breaks]), np.concatenate([breaks, [len(rows)]]) - 1
    files = numbers[firsts]
    return files.tolist(), (rows[firsts] - starts[files]).tolist(), (rows[lasts] + 1 - starts[files]).tolist()


def numbered(batch: Batch, layout: Sequence[Sequence[int]], tokens: Sequence[Tokens], firsts: Sequence[int]) -> Batch:
    """The batch with the row of each label (``NUMBERS``, rows x width; -1 where there is no label).

    Args:
        layout: the sequences of each row of the batch, as for ``packing.lay_out``.
        firsts: for each sequence, the row of its first label.
    """
    order = [index for row in layout for index in row]
    known = [torch.arange(firsts[index], firsts[index] + tokens[index].num_supervised) for index in order]
    numbers = torch.full_like(batch["labels"], -1)
    # A mask lists its places row by row, which is the order of the sequences and of their labels.
    numbers[batch["labels"] != IGNORED] = torch.cat(known) if known else numbers.new_zeros(0)
    return batch | {NUMBERS: numbers}
