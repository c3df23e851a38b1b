"""A run that is killed at a given batch."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


def dies_at_batch(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, batch: int) -> list[int]:
    """Let ``name(model, sequences, ...)`` of a stage's module raise KeyboardInterrupt at its ``batch``-th call; returns
    the sizes of its batches, which go on being noted afterwards."""
    function: Callable[..., Any] = getattr(module, name)
    sizes: list[int] = []

    def dying(model: Any, sequences: Any, *more: Any) -> Any:
        sizes.append(len(sequences))
        if len(sizes) == batch:
            raise KeyboardInterrupt
        return function(model, sequences, *more)

    monkeypatch.setattr(module, name, dying)
    return sizes
