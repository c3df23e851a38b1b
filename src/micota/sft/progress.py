"""The interface between the training loop and reporters of its progress (console, log, tracker, a pipe)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Receives the number of optimiser steps once, and then metrics by name with their step."""

    def begin(self, total: int) -> None: ...

    def step(self, metrics: Mapping[str, float], step: int) -> None: ...
