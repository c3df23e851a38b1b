"""The implementations of what lies between the products of a layer: as transformers has it, compiled, of Liger Kernel,
or of this package on a CPU."""

from __future__ import annotations

from typing import Any

from micota.config import TrainerConfig
from micota.sft import compiling, liger
from micota.sft.cpu_kernels import use_cpu_kernels


def check(settings: Any, trainer: TrainerConfig) -> None:
    """Refuse an implementation that cannot run, before weights are read.

    Args:
        settings: transformers' config of the model.

    Raises:
        ConfigError: the text names what is missing.
    """
    device = "cuda" if trainer.accelerator == "gpu" else "cpu"
    if trainer.compile:
        compiling.check(device)
    if trainer.kernels == "liger":
        liger.check(settings, device)


def set_up(model: Any, trainer: TrainerConfig) -> None:
    """Give the layers of a model the implementation of ``trainer``, before FSDP2 shards it."""
    if trainer.compile:
        compiling.compile_layers(model)
    elif trainer.kernels == "liger":
        liger.use_liger(model)
    else:
        use_cpu_kernels(model, trainer)
