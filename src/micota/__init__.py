"""MiCoTA: teach small language models to reason, by distillation through a merged teacher assistant.

The functions below are the commands for Python: see docs/how-to/python.md. They are imported when they are first used,
so that ``import micota`` takes no time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# torch.cuda.is_available(), which libraries call too, then reads the driver's list of GPUs. By default it starts CUDA,
# and the processes that vLLM forks would refuse to use it.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

if TYPE_CHECKING:
    from micota.api import Results, compose, evaluate, generate, grade, load_results, merge, train

__version__ = "0.1.0"
__all__ = ["Results", "compose", "evaluate", "generate", "grade", "load_results", "merge", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from micota import api

        return getattr(api, name)
    raise AttributeError(f"module 'micota' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
