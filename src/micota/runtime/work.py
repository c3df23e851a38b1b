"""What a stage gets to work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from rich.console import Console

from micota.artifacts.store import Build, Store
from micota.config import Config
from micota.graph.node import Node, SpecT
from micota.tracking import Run


@dataclass
class Work(Generic[SpecT]):
    """What a stage gets: the config (for where to run; what determines the result is in the node), inputs, outputs."""

    config: Config
    store: Store
    node: Node[SpecT]
    build: Build
    run: Run
    console: Console
