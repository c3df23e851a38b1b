"""The argument of every stage."""

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
    """Config, store, node and outputs of a stage. The node determines the result; the config determines where and how
    to run."""

    config: Config
    store: Store
    node: Node[SpecT]
    build: Build
    run: Run
    console: Console
