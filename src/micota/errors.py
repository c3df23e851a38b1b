"""Errors that the user can correct or the machine causes. Any other exception is a bug and keeps its traceback."""

from __future__ import annotations

import errno
import re
import signal

from micota.processes import signal_name
from micota.secrets import redacted

USER_ERROR = 2  # the exit code of a process that ends with a user error
ERROR = "error: "  # before the one line that a command prints for a user error
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
# In texts of other exceptions for it: of Rust, in which safetensors is written, and of torch's file writer.
DISK_TEXTS = (
    *(f"os error {number}" for number in (*DISK_IS_FULL, errno.EFBIG)),
    "No space left on device", "iostream error", "PyTorchStreamWriter",
)  # fmt: skip
# In texts of RuntimeErrors: of PyTorch's allocator on CPU, of cuBLAS, and of CUDA itself.
MEMORY_IS_FULL = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
)
# Runs of blanks stay: a printed command may have some in a value.
_BREAKS = re.compile(r"[ \t]*[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]\s*")
LINES_SHOWN = 200  # of what a failed process printed, the last ones


class UserError(Exception):
    """An error that the command line prints as one line, with exit code 2. Its text names the key or file, the value
    and the accepted form, or the command that helps."""


class ConfigError(UserError):
    """A mistake in the configuration; the text names the key, the value seen and the accepted form."""


class ArtifactError(UserError):
    """An artifact is missing, damaged, of another schema, or cannot be written; the text names the remedy."""


class SourceError(UserError):
    """Problems or a model cannot be read; the text names the file or hub id and what was expected."""


class ModelError(SourceError):
    """A model cannot be read; the text begins with ``path=VALUE``, before which goes the part of the config."""

    def __init__(self, text: str, path: str) -> None:
        super().__init__(text, path)
        self.path = path

    def __str__(self) -> str:
        return str(self.args[0])


class MachineError(UserError):
    """The machine has too little disk or memory; the text names what to free or to lower."""


class ExportError(UserError):
    """A written file does not read back as expected."""


class EndpointError(UserError):
    """A server does not answer, or its reply is invalid; the text names the key of its address."""


class StageError(UserError):
    """A process of a stage failed with a user error, or was killed; the text has the cause."""


class ChildError(Exception):
    """A child process failed because of a bug, not with a user error. The text holds its traceback."""


def is_users(error: BaseException) -> bool:
    """Whether the user can correct the cause of an exception. Any other exception is a bug and shows its traceback."""
    if isinstance(error, OSError):
        # Of a file, not of a socket. A write to a full disk names no file.
        return error.filename is not None or error.errno in DISK_IS_FULL
    return isinstance(error, UserError)


def full_disk(error: BaseException) -> str | None:
    """The text of an exception, or of one behind it, about a full disk, a quota or a limit on the size of files; None
    for any other. Libraries that write weights have exceptions of their own, with the number of the error in their
    texts."""
    seen: set[int] = set()
    behind: BaseException | None = error
    while behind is not None and id(behind) not in seen:
        seen.add(id(behind))
        is_full = isinstance(behind, OSError) and behind.errno in (*DISK_IS_FULL, errno.EFBIG)
        if is_full or any(text in str(behind) for text in DISK_TEXTS):
            return " ".join(str(behind).split())
        behind = behind.__cause__ or behind.__context__
    return None


def named_by(folder: object, error: Exception) -> Exception:
    """An exception about a full disk as an error of the user that names the folder; any other as it is."""
    if isinstance(error, UserError) or (reason := full_disk(error)) is None:
        return error
    return MachineError(
        f"{folder} cannot be written ({reason}): free some space, or choose another disk with artifacts=FOLDER, and "
        "run the same command again, which goes on from here"
    )


def is_full_memory(error: BaseException) -> bool:
    """Whether an exception is about the memory of a device or a process, by its type or its text."""
    # By name, since torch is not imported here: torch.OutOfMemoryError, which is a RuntimeError.
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in MEMORY_IS_FULL)


def shown(text: str) -> str:
    """A text on one line, without keys, and without characters that a terminal would obey or that turn its order: they
    are escaped."""
    line = _BREAKS.sub(" ", redacted(text)).strip()
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in line)


def text_of(error: BaseException) -> str:
    """The text of a user error, on one line."""
    text = shown(str(error)) or type(error).__name__
    if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
        return f"{text}: free some space, or choose another disk with artifacts=FOLDER, and run the same command again"
    return text


def failure(what: str, code: int, printed: str) -> Exception:
    """The error behind a process that ended with ``code`` (negative: a signal) and ``printed`` to its stderr."""
    lines = printed.strip().splitlines()
    user_errors = [line for line in lines if line.startswith(ERROR)]
    if code == USER_ERROR and user_errors:  # a library may print such a line before a bug ends the process
        return StageError(f"{what} failed: {user_errors[-1]}")
    killed_by = -code if code < 0 else code - 128
    if killed_by == signal.SIGKILL:
        return StageError(f"{what} was killed by signal 9; is memory short? The same command goes on from here")
    if killed_by in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU):
        return StageError(f"{what} was ended by {signal_name(killed_by)}; the same command goes on from here")
    how = f"was ended by {signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
    return ChildError("\n".join([f"{what} {how}:", *lines[-LINES_SHOWN:]]))
