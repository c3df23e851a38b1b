"""The GPUs of this machine, without importing torch: plans must be fast.

Nor does it start CUDA, which a process that vLLM forks later could not use. Outside of ``micota.sft``, which trains,
code must not call functions of ``torch.cuda`` that do.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from functools import cache

QUERY = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU: its name as the driver prints it, and its memory in bytes."""

    name: str
    memory_bytes: int


@cache
def gpus() -> tuple[Gpu, ...]:
    """The GPUs that this process may use (``CUDA_VISIBLE_DEVICES``), as nvidia-smi lists them."""
    try:
        listing = subprocess.run(QUERY, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return parsed(listing, os.environ.get("CUDA_VISIBLE_DEVICES"))


def parsed(listing: str, visible: str | None) -> tuple[Gpu, ...]:
    """The GPUs of a listing of nvidia-smi, of which ``CUDA_VISIBLE_DEVICES`` (indices or ids) may hide some."""
    rows = [[cell.strip() for cell in line.split(",")] for line in listing.splitlines() if line.count(",") == 3]
    chosen = None if visible is None else [word.strip() for word in visible.split(",")]
    return tuple(
        Gpu(name=name, memory_bytes=int(float(mebibytes) * 2**20))
        for index, identity, name, mebibytes in rows
        if chosen is None or any(word and (word == index or identity.startswith(word)) for word in chosen)
    )
