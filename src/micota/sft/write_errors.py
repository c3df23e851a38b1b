"""Errors of a checkpoint that cannot be written, in one line, whichever library and rank they come from."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from torch.distributed.checkpoint.api import CheckpointException

from micota.errors import DISK_IS_FULL, ConfigError

IS_FULL = (*DISK_IS_FULL, errno.EFBIG)  # EFBIG: a limit on the size of files
WRITER_ERRORS = ("inline_container.cc", "PyTorchStreamWriter", "iostream error")  # in texts of torch's file writer


def write_error(error: BaseException) -> BaseException | None:
    """The error of the disk behind an exception; None if there is none.

    ``torch.save`` ends with a RuntimeError of its writer, with the OSError in its context. The error of sharded saves
    holds the errors of all ranks, without their contexts, and is no Exception.
    """
    if isinstance(error, CheckpointException):
        causes = [write_error(failure) for failure, _ in error.failures.values()]
        return next((cause for cause in causes if cause is not None), None)
    if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):  # of a rank that has ended
        return error
    if any(text in str(error) for text in WRITER_ERRORS):
        return error
    return None if error.__context__ is None else write_error(error.__context__)


@contextmanager
def explaining(final: Path, remove: Callable[[], object]) -> Iterator[None]:
    """Remove what cannot be written as ``final``, and raise the cause in one line.

    Raises:
        ConfigError: a write in the block has failed.
    """
    try:
        yield
    except (OSError, RuntimeError, CheckpointException) as error:
        with suppress(OSError):  # of another rank that removes it too, or of a folder that takes no changes
            remove()
        if (cause := write_error(error)) is None:
            raise
        raise explained(final, cause) from error


def explained(final: Path, cause: BaseException) -> ConfigError:
    """The error of a checkpoint, which names it, the cause and what helps."""
    folder = next(path for path in final.parents if path.is_dir())
    reason = f"{cause.strerror} for {cause.filename}" if isinstance(cause, OSError) and cause.filename else str(cause)
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno not in IS_FULL:
        remedy = f"; make {folder} a folder that can be written to"
    else:
        remedy = f"; {shutil.disk_usage(folder).free / 2**30:.1f} GiB are free there: free some space"
    return ConfigError(
        f"{final} cannot be written ({reason}){remedy} and run the same command again, which resumes from the previous "
        "checkpoint"
    )
