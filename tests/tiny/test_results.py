"""The results of the toy setting that hold with margin (docs/explanation/toy-setting.md: figures of five seeds)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import case_of

from micota.artifacts.store import Store
from micota.graph import comparison
from micota.report.collect import summarise


@pytest.mark.slow
def test_orders_that_hold_with_margin(
    run_command: Callable[..., subprocess.CompletedProcess[str]], composed: Callable[..., Any], tmp_path: Path
) -> None:
    finished = run_command("pipeline", "experiment=tiny", "tracker=none")
    assert finished.returncode == 0, finished.stderr
    config = composed("generate", "experiment=tiny")
    recipes = [composed("generate", "experiment=tiny", f"data={recipe}") for recipe in config.compare.recipes]
    store = Store(tmp_path / "artifacts")
    summary = summarise(store, "tiny", "tiny_student", {0: comparison(case_of(recipes))})
    by_name = {recipe.name: recipe for recipe in summary.recipes}
    accuracy = {name: 100 * recipe.average.value for name, recipe in by_name.items()}
    assert accuracy["strong"] < accuracy["instruct"] - 15
    assert accuracy["micota"] > accuracy["strong"] + 30
    merged, unmerged = summary.curve[config.merge.weight], summary.curve[1.0]
    assert 0.5 < merged.num_tokens / unmerged.num_tokens < 0.75
    assert merged.average.value > unmerged.average.value - 0.02
    bpc = {name: recipe.bits_per_byte for name, recipe in by_name.items()}
    assert bpc["micota"] < bpc["mix_long"] < min(bpc["half_size"], bpc["strong"])
