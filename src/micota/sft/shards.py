"""Reads distributed checkpoints without running code that is in them.

PyTorch unpickles what describes the shards, and what is no tensor among them, without limits. Checkpoints lie in the
folder of artifacts, which users may share.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import torch
from torch.distributed.checkpoint import metadata as of_metadata
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, _metadata_fn, _StorageInfo, _StoragePrefix
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem

from micota.errors import ConfigError

_MODULES = (of_metadata.__name__, FileSystemReader.__module__)
_CLASSES = (*(value for value in vars(of_metadata).values() if isinstance(value, type)), _StorageInfo, _StoragePrefix)
_OTHERS = {  # parts of those: sizes, layouts, and the path at which a checkpoint was written
    ("torch", "Size"), ("torch.serialization", "_get_layout"), ("collections", "OrderedDict"),
    ("pathlib", "PosixPath"), ("pathlib", "PurePosixPath"), ("pathlib", "Path"),
}  # fmt: skip


class _Limited(pickle.Unpickler):
    """Builds what describes shards, and refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        is_known = (module, name) in _OTHERS or (module == "torch" and isinstance(vars(torch).get(name), torch.dtype))
        if not is_known and not (module in _MODULES and any(name == kind.__name__ for kind in _CLASSES)):
            raise pickle.UnpicklingError(f"it has {module}.{name} in it, which describes no shards")
        return super().find_class(module, name)


class ShardReader(FileSystemReader):
    """Reads shards below one folder, whose description is data alone.

    Raises:
        ConfigError: the description has code in it, or names files elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._description = _description(folder)  # DCP makes a text of what is raised later

    def read_metadata(self) -> Metadata:  # not of a rank, which DCP would look for
        """See FileSystemReader."""
        if self._description.storage_meta is None:
            self._description.storage_meta = StorageMeta()
        self._description.storage_meta.load_id = self.load_id
        return self._description


def _description(folder: Path) -> Metadata:
    try:
        description = _Limited(io.BytesIO((folder / _metadata_fn).read_bytes())).load()
        if not isinstance(description, Metadata):
            raise pickle.UnpicklingError(f"it is described by {type(description).__name__}")
        for info in description.storage_data.values():
            if PurePath(info.relative_path).name != info.relative_path:
                raise pickle.UnpicklingError(f"it names the file {info.relative_path!r}")
    except (pickle.UnpicklingError, AttributeError, EOFError, IndexError, TypeError, ValueError) as error:
        raise _refused(folder, " ".join(str(error).split())) from error
    return description


class _PlainBytes:
    """For planners: what is no tensor is loaded as weights are, without code."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        plain: Any = torch.load(value, weights_only=True)
        super().load_bytes(read_item, _as_bytes(plain))  # type: ignore[misc]


def _as_bytes(value: Any) -> io.BytesIO:
    """What PyTorch's planners load again: of a value that was checked."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return buffer


class ShardPlanner(_PlainBytes, DefaultLoadPlanner):
    """Loads into the tensors of a state dict."""


class EveryShard(_PlainBytes, _EmptyStateDictLoadPlanner):
    """Loads all that a folder has, as torch's ``dcp_to_torch_save`` does."""


@contextmanager
def loading(checkpoint: Path) -> Iterator[None]:
    """Load a checkpoint, of one file or of shards.

    Raises:
        ConfigError: it is damaged, or has more in it than weights.
    """
    try:
        yield
    except CheckpointException as error:  # it has the errors of all ranks
        causes = [cause for cause, _ in error.failures.values()]
        if (known := next((cause for cause in causes if isinstance(cause, ConfigError)), None)) is not None:
            raise known from error
        if any(map(_is_damage, causes)):
            raise _refused(checkpoint) from error
        raise
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        if not _is_damage(error):
            raise
        raise _refused(checkpoint) from error


def _is_damage(error: BaseException) -> bool:
    is_archive = isinstance(error, RuntimeError) and str(error).startswith("PytorchStreamReader")
    return is_archive or isinstance(error, pickle.UnpicklingError | EOFError)


def _refused(checkpoint: Path, reason: str = "a pickle") -> ConfigError:
    # The text of torch says how to run the code that is in a file, and is not shown.
    return ConfigError(
        f"{checkpoint} is damaged, or has more in it than weights ({reason}); delete {checkpoint.parent} and run "
        "again, which starts over"
    )
