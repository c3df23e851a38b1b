"""What malloc keeps of freed memory."""

from __future__ import annotations

import ctypes
import sys

M_MMAP_THRESHOLD = -3  # of mallopt(3)
LARGE_BYTES = 2**20


def give_back() -> None:
    """Make glibc return large blocks to the system when they are freed.

    By default it raises the size from which it does so to 32 MiB as soon as such a block is freed. Activations are then
    taken from a heap that only grows: gaps are left in it wherever a gradient or an optimiser state stays.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
