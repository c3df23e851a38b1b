"""What tests of stages share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from training import TRAINING, Prepared, rows

from micota import graph
from micota.artifacts.jsonl import write_jsonl
from micota.artifacts.store import Store
from micota.config import Call, Config
from micota.runtime.execute import perform
from micota.runtime.plan import tasks_of


@pytest.fixture
def prepared(composed: Callable[..., Any], tmp_path: Path) -> Prepared:
    """A config of train.py whose data is there already, as rows of the user."""
    write_jsonl(tmp_path / "rows.jsonl", rows())

    def prepare(*overrides: str) -> Config:
        paths = [f"data.path={tmp_path / 'rows.jsonl'}", f"artifacts={tmp_path / 'artifacts'}"]
        config: Config = composed("train", *TRAINING, *paths, *overrides)
        node = graph.trained(config, "student").inputs["data"]
        store = Store(config.artifacts)
        if not store.is_done(node):
            perform(config, store, tasks_of([node])[0], Console(quiet=True))
        return config

    return prepare


@pytest.fixture
def elsewhere(tmp_path: Path) -> Callable[[Config, str], Config]:
    """The same run with another folder of artifacts, in which the data is there too."""

    def move(config: Config, name: str) -> Config:
        target = tmp_path / name
        (target / "data").parent.mkdir(parents=True, exist_ok=True)
        (target / "data").symlink_to(Path(config.artifacts) / "data")
        overrides = [item for item in config.overrides if not item.startswith("artifacts=")]
        return replace(config, artifacts=str(target), call=Call(overrides=[*overrides, f"artifacts={target}"]))

    return move
