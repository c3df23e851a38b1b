"""The end of processes: with those that started them, and by which signal."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1  # of prctl(2)
STARTER = "MICOTA_STARTED_BY"
GOES_ON = "the same command goes on from here"
INTERRUPTED = f"interrupted; {GOES_ON}"


def started_by_this_process() -> dict[str, str]:
    """The environment of a process that is to end with this one; what it starts in turn does not inherit it."""
    return os.environ | {STARTER: str(os.getpid())}


def end_with_starter(signum: signal.Signals) -> None:
    """End this process by a signal when the one that started it has ended, even by ``kill -9``, where that one wants it
    (see ``started_by_this_process``)."""
    starter = os.environ.pop(STARTER, None)
    if starter is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signum)
    if os.getppid() != int(starter):  # it ended before the kernel knew
        sys.exit(128 + signum)


@contextmanager
def leaving_at_interrupts() -> Iterator[None]:
    """End at Ctrl-C with a line, at once, while modules are imported: KeyboardInterrupt would come out of their middle
    as any other error. A process that ignores Ctrl-C goes on ignoring it."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def leave(_signum: int, _frame: Any) -> NoReturn:
        os.write(2, f"{INTERRUPTED}\n".encode())
        os._exit(128 + signal.SIGINT)

    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_at_interrupt() -> NoReturn:
    """End this process after a Ctrl-C, with a line; another one while it ends leaves it at once."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))
    print(INTERRUPTED, file=sys.stderr)
    sys.exit(128 + signal.SIGINT)


def note_sigterm() -> None:
    """Print a line when SIGTERM ends this process, which it does as if nobody had noted it. Training, which writes a
    checkpoint first, has a handler of its own; so has a job of submitit."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return
    owner = os.getpid()

    def note(signum: int, _frame: Any) -> None:
        if os.getpid() == owner:  # not in its forks
            os.write(2, f"stopped by SIGTERM; {GOES_ON}\n".encode())
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    signal.signal(signal.SIGTERM, note)


def signal_name(number: int) -> str:
    """A signal by number and name, as ``signal 9 (SIGKILL)``."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
