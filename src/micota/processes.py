"""The end of processes: with those that started them, and by which signal."""

from __future__ import annotations

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1  # of prctl(2)


def end_with_parent(signum: signal.Signals) -> None:
    """Ask the kernel to send this process a signal when the one that started it has ended, even by ``kill -9``."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signum)


def signal_name(number: int) -> str:
    """A signal by number and name, as ``signal 9 (SIGKILL)``."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
