"""The papers' experiments fit the machine that the README names for the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from micota import graph
from micota.artifacts.store import Store
from micota.cli.experiments import cases
from micota.config import conf_folder
from micota.costs.table import costs_of
from micota.runtime.plan import tasks_of

FOLDER = conf_folder() / "experiment"
PAPERS = sorted(
    str(path.relative_to(FOLDER).with_suffix(""))
    for path in FOLDER.rglob("*.yaml")
    if not path.stem.startswith("_") and "tiny" not in path.read_text(encoding="utf-8")
)


@pytest.mark.slow  # each composes the configs of all its cases; test_plan prices the README's in every run
@pytest.mark.parametrize("name", PAPERS)
def test_every_experiment_fits_eight_gpus_of_80_gb(composed: Callable[..., Any], name: str) -> None:
    config = composed("pipeline", f"experiment={name}", "hardware=h100x8")
    made = graph.experiment(cases(config))
    tasks = [(task.command, task.nodes) for task in tasks_of(graph.unique(made.targets()))]
    costs = costs_of(config, Store("/nonexistent"), tasks, made.configs)
    assert not costs.problems and costs.total.device_seconds > 0
