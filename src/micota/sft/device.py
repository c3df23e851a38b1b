"""What a device has, and what this process has used of it."""

from __future__ import annotations

import resource
import sys

from micota.config import TrainerConfig
from micota.config.hardware import device_of


def peak_flops(trainer: TrainerConfig) -> float | None:
    """Peak FLOP/s of one device, if it is known; None on CPU unless ``trainer.peak_tflops`` gives it."""
    if trainer.peak_tflops is not None:
        return trainer.peak_tflops * 1e12
    if trainer.accelerator == "cpu":
        return None
    import torch

    known = device_of(torch.cuda.get_device_name())
    return None if known is None else known.peak_tflops * 1e12


def peak_memory_bytes() -> int:
    """Peak memory of this process so far: of the GPU if there is one, else resident."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    # getrusage counts KiB on Linux and bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_bytes(trainer: TrainerConfig) -> int:
    """Memory of one GPU in bytes, or this process' share of the available memory of the machine."""
    if trainer.accelerator == "gpu":
        import torch

        return int(torch.cuda.get_device_properties(0).total_memory)
    import psutil

    return int(psutil.virtual_memory().available) // trainer.num_devices


def host_bytes(trainer: TrainerConfig) -> int | None:
    """Memory of this machine that is free, in bytes; None if the run is for GPUs, of which this machine has none."""
    if trainer.accelerator == "gpu":
        import torch

        if not torch.cuda.is_available():
            return None
    import psutil

    return int(psutil.virtual_memory().available)
