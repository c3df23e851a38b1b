"""The memory of a step with Liger's kernels by its operations, and the estimate; prints both in bytes as JSON.

Run as a program: its kernels compute nothing, in the whole process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from triton.runtime import jit

from micota.sft import liger

sys.path.insert(0, str(Path(__file__).parents[1]))
CASES = {
    "small": [("none", 2048), ("selective", 2048), ("full", 2048)],
    "1.5b": [("none", 16384), ("selective", 16384), ("full", 16384)],
    "7b": [("full", 16384)],
}


def nothing(*_: Any, **__: Any) -> None:
    """A kernel: its tensors have sizes alone."""


if __name__ == "__main__":
    from test_memory import counted_and_estimated

    jit.JITFunction.run = nothing
    liger._runs_on = lambda tensor: True
    found = {}
    for size, cases in CASES.items():
        for kind, tokens in cases:
            with pytest.MonkeyPatch.context() as patch:
                found[f"{size} {kind}"] = counted_and_estimated(
                    size, kind, tokens, "bf16-mixed", 1, patch, kernels="liger"
                )
    print(json.dumps(found))
