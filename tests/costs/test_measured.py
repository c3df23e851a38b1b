"""Speeds of earlier runs on the same machine replace assumptions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from micota import graph
from micota.artifacts.manifest import MANIFEST, read_manifest, write_manifest
from micota.artifacts.store import Store
from micota.costs.context import Context
from micota.costs.machine import machine_of
from micota.costs.table import estimate
from micota.graph.node import AnyNode

Composed = Callable[..., Any]


def finish(store: Store, node: AnyNode, seconds: float, tokens: float = 100.0, **changes: Any) -> None:
    """A finished artifact of completions that took so long."""
    with store.build(node, 0) as build:
        assert build is not None
        build.counts |= {"requested": 1600, "resumed": 0}
        build.metrics |= {"num_tokens": tokens}
    write_manifest(store.path(node), replace(read_manifest(store.path(node)), seconds=seconds, **changes))


def completions(config: Any) -> AnyNode:
    return graph.data(config, config.data).inputs["completions"]


def test_the_seconds_are_those_of_the_earlier_run_in_proportion_to_its_work(composed: Composed, tmp_path: Path) -> None:
    store, config = Store(tmp_path), composed("generate", "experiment=tiny", "data=strong")
    finish(store, completions(config), seconds=16.0)
    again = composed("generate", "experiment=tiny", "data=strong", "seed=1", "problems.limit=400")
    found = estimate(Context(machine_of(again), store, again, {}), completions(again))
    assert found.is_measured and found.generated == 400 * 100
    assert found.seconds == pytest.approx(16.0 * 400 / 1600)
    larger = replace(again.teacher, path="bundled:ta", revision=None)
    other = replace(again, teacher=larger)
    of_other = estimate(Context(machine_of(other), store, other, {}), completions(other))
    ratio = of_other.weights / found.weights
    assert of_other.seconds == pytest.approx(16.0 * of_other.work / 160_000 * ratio)


def test_runs_of_other_machines_and_resumed_ones_do_not_count(composed: Composed, tmp_path: Path) -> None:
    store, config = Store(tmp_path), composed("generate", "experiment=tiny", "data=strong")
    finish(store, completions(config), seconds=16.0, hardware={"machine": "x86_64", "cpus": 512})
    again = composed("generate", "experiment=tiny", "data=strong", "seed=1")
    assert not estimate(Context(machine_of(again), store, again, {}), completions(again)).is_measured
    resumed = composed("generate", "experiment=tiny", "data=strong", "seed=2")
    finish(store, completions(resumed), seconds=1.0, counts={"requested": 1600, "resumed": 1500})
    assert not estimate(Context(machine_of(again), store, again, {}), completions(again)).is_measured
    named = composed("generate", "experiment=tiny", "data=strong", "seed=1", "hardware=h100x8")
    assert not Context(machine_of(named), store, named, {}).measured.all


def test_a_damaged_manifest_is_left_to_the_command_that_needs_it(composed: Composed, tmp_path: Path) -> None:
    (tmp_path / "scores" / "a-1234567890").mkdir(parents=True)
    (tmp_path / "scores" / "a-1234567890" / MANIFEST).write_text("[]")
    made = completions(composed("generate", "experiment=tiny", "data=strong"))
    with Store(tmp_path).build(made, 0):
        pass
    changed = json.loads((file := tmp_path / made.folder / MANIFEST).read_text()) | {"metrics": None}
    file.write_text(json.dumps(changed))
    config = composed("generate", "experiment=tiny", "data=strong")
    assert estimate(Context(machine_of(config), Store(tmp_path), config, {}), completions(config)).seconds > 0


def test_a_plan_loads_no_model_library(tmp_path: Path) -> None:
    program = (
        "import sys; from micota.cli.app import main; "
        f"main(['train', 'role=ta', 'hardware=h100x8', 'plan=true', 'artifacts={tmp_path}']); "
        "assert not {'torch', 'transformers'} & {*sys.modules}"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0 and "GPU time" in finished.stdout, finished.stderr
