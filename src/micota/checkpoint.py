"""Safetensors checkpoints read and written in slices: memory stays bounded however large the model is.

Files are read with ``preadv`` and written with ``pwrite`` rather than mapped: pages of a mapped file count as the
process's memory, and there would be no telling what a merge needs.
"""

from __future__ import annotations

import json
import math
import operator
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from micota.errors import ConfigError

WEIGHTS = "model.safetensors"
ADAPTER_WEIGHTS = "adapter_model.safetensors"  # peft's
INDEX = "model.safetensors.index.json"
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
CODES = {dtype: code for code, dtype in DTYPES.items()} | {  # buffers may be of others
    torch.float64: "F64", torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
SHARD_BYTES = 5 * 10**9  # most of one weight file
HEADER_BYTES = 8  # the length of the header, little-endian


@dataclass(frozen=True)
class Entry:
    """Where one tensor stands; ``offset`` counts bytes from the start of the file."""

    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)


class Checkpoint:
    """The tensors of a model folder. Reads are safe from several threads at once."""

    def __init__(self, folder: Path, entries: dict[str, Entry]) -> None:
        self.folder = folder
        self.entries = entries
        self.is_changed = False  # whether its tensors, or their names, are others than those of the folder
        self._handles: dict[Path, int] = {}

    @classmethod
    @contextmanager
    def open(cls, folder: Path, weights: str = WEIGHTS) -> Iterator[Checkpoint]:
        """Open the checkpoint of a model folder; ``weights`` is its file where it has but one.

        Raises:
            ConfigError: there are no safetensors, a shard is missing or cut short, or a tensor is not of floats.
        """
        entries: dict[str, Entry] = {}
        for file in shards(folder, weights):
            entries |= dict(_header(file))
        if not (folder / weights).exists() and (lacking := _indexed(folder).keys() - entries.keys()):
            raise ConfigError(f"{folder / INDEX} names {min(lacking)}, which no file has; fetch the model again")
        checkpoint = cls(folder, entries)
        try:
            for file in {entry.file for entry in entries.values()}:
                checkpoint._handles[file] = os.open(file, os.O_RDONLY)
            yield checkpoint
        finally:
            for handle in checkpoint._handles.values():
                os.close(handle)

    def renamed(self, names: Mapping[str, str]) -> Checkpoint:
        """The tensors of ``names`` under their new names; it is open as long as this one."""
        other = Checkpoint(self.folder, {names[name]: entry for name, entry in self.entries.items() if name in names})
        other._handles, other.is_changed = self._handles, True
        return other

    def tensor(self, name: str) -> torch.Tensor:
        """A whole tensor."""
        entry = self.entries[name]
        return self.read(name, 0, entry.num_elements).view(entry.shape)

    def read(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Elements ``start`` to ``stop`` of a flattened tensor, in the dtype of the file."""
        entry = self.entries[name]
        tensor = torch.empty(stop - start, dtype=entry.dtype)
        buffer = tensor.view(torch.uint8).numpy().data
        offset = entry.offset + start * entry.dtype.itemsize
        while buffer:
            count = os.preadv(self._handles[entry.file], [buffer], offset)
            if count == 0:
                raise ConfigError(
                    f"{entry.file} ended while {name} was read; fetch the model again, or run again if "
                    "it was changed meanwhile"
                )
            buffer, offset = buffer[count:], offset + count
        return tensor


def shards(folder: Path, weights: str = WEIGHTS) -> list[Path]:
    """The weight files of a model folder. A whole file comes before an index, as in transformers.

    Raises:
        ConfigError: there are none, or one that the index names is missing.
    """
    if (folder / weights).exists():
        names = [weights]
    elif (folder / INDEX).exists():
        names = sorted(set(_indexed(folder).values()))
    else:
        raise ConfigError(f"{folder} has neither {weights} nor {INDEX}; accepted: a model saved as safetensors")
    for name in names:
        if not (folder / name).exists():
            raise ConfigError(f"{folder / name} is missing, and {INDEX} names it; fetch the model again")
    return [folder / name for name in names]


def _indexed(folder: Path) -> dict[str, str]:
    """The file of each tensor by the index of a folder."""
    try:
        named = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        return {str(name): str(Path(file)) for name, file in named.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{folder / INDEX} is not an index of safetensors ({error!r}); fetch the model again"
        ) from None


def _header(file: Path) -> Iterator[tuple[str, Entry]]:
    """The tensors of one file."""
    size = file.stat().st_size
    with open(file, "rb") as handle:
        length = int.from_bytes(handle.read(HEADER_BYTES), "little")
        try:
            if length > size:
                raise ValueError("its header is longer than the file")
            header: dict[str, Any] = json.loads(handle.read(length))
            parsed = {name: _parsed(entry) for name, entry in header.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{file} is not a whole safetensors file ({error!r}); fetch the model again") from None
    end = HEADER_BYTES + length + max((stop for _, _, _, stop in parsed.values()), default=0)
    if size != end:
        raise ConfigError(f"{file} has {size} bytes, its header says {end}; fetch the model again")
    for name, (dtype, shape, start, stop) in parsed.items():
        if dtype not in DTYPES:
            raise ConfigError(f"{file}: {name} is of dtype {dtype}; accepted: {', '.join(DTYPES)}")
        if stop - start != math.prod(shape) * DTYPES[dtype].itemsize:
            raise ConfigError(
                f"{file}: {name} has {stop - start} bytes, its shape {list(shape)} of {dtype} needs "
                f"{math.prod(shape) * DTYPES[dtype].itemsize}; fetch the model again"
            )
        yield name, Entry(file, HEADER_BYTES + length + start, shape, DTYPES[dtype])


def _parsed(entry: dict[str, Any]) -> tuple[str, tuple[int, ...], int, int]:
    """Dtype, shape, first byte and end of an entry of a header; any odd value raises an error."""
    start, stop = map(operator.index, entry["data_offsets"])
    shape = tuple(map(operator.index, entry["shape"]))
    if min(start, stop - start, *shape) < 0:
        raise ValueError(f"{entry} has a negative number")
    return str(entry["dtype"]), shape, start, stop


@dataclass(frozen=True)
class Form:
    """What a file says of a tensor before its values are there."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class CheckpointWriter:
    """Writes tensors of known forms slice by slice, in any order and from several threads: one file, or several of at
    most ``shard_bytes`` (unless one tensor alone is larger) and their index."""

    def __init__(self, folder: Path, forms: Mapping[str, Form], shard_bytes: int = SHARD_BYTES):
        self._handles: dict[Path, int] = {}
        self._entries: dict[str, Entry] = {}
        groups = list(_grouped(forms, shard_bytes))
        for number, group in enumerate(groups, start=1):
            name = WEIGHTS if len(groups) == 1 else f"model-{number:05d}-of-{len(groups):05d}.safetensors"
            self._begin(folder / name, {tensor: forms[tensor] for tensor in group})
        if len(groups) > 1:
            places = {name: entry.file.name for name, entry in self._entries.items()}
            total = sum(form.num_bytes for form in forms.values())
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
            (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    def _begin(self, file: Path, forms: Mapping[str, Form]) -> None:
        """Write a file's header and give it its size."""
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name, form in forms.items():
            start, end = end, end + form.num_bytes
            header[name] = {"dtype": CODES[form.dtype], "shape": list(form.shape), "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # so that tensors are aligned
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        self._handles[file] = handle
        os.write(handle, len(text).to_bytes(HEADER_BYTES, "little") + text)
        os.ftruncate(handle, HEADER_BYTES + len(text) + end)
        for name, form in forms.items():
            offset = HEADER_BYTES + len(text) + header[name]["data_offsets"][0]
            self._entries[name] = Entry(file, offset, form.shape, form.dtype)

    def write(self, name: str, start: int, values: torch.Tensor) -> None:
        """Write elements of a flattened tensor from ``start`` on."""
        entry = self._entries[name]
        assert values.dtype == entry.dtype
        buffer = values.contiguous().view(torch.uint8).numpy().data
        offset = entry.offset + start * entry.dtype.itemsize
        while buffer:
            count = os.pwrite(self._handles[entry.file], buffer, offset)
            buffer, offset = buffer[count:], offset + count

    def close(self) -> None:
        """Make everything durable."""
        for handle in self._handles.values():
            os.fsync(handle)
            os.close(handle)


def _grouped(forms: Mapping[str, Form], shard_bytes: int) -> Iterable[list[str]]:
    """Names in files of at most ``shard_bytes``, unless one tensor alone is larger."""
    group: list[str] = []
    size = 0
    for name, form in forms.items():
        if group and size + form.num_bytes > shard_bytes:
            yield group
            group, size = [], 0
        group.append(name)
        size += form.num_bytes
    yield group
