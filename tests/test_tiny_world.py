"""The results of the miniature world that hold with margin (docs/tiny-world.md has the figures of five seeds)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import case_of

from micota.artifacts import Store
from micota.graph import comparison
from micota.report.collect import summarise


@pytest.mark.slow
def test_orders_that_hold_with_margin(
    run_door: Callable[..., subprocess.CompletedProcess[str]], composed: Callable[..., Any], tmp_path: Path
) -> None:
    finished = run_door("pipeline", "experiment=tiny", "tracker=none")
    assert finished.returncode == 0, finished.stderr
    config = composed("generate", "experiment=tiny")
    arms = [composed("generate", "experiment=tiny", f"data={arm}") for arm in config.compare.arms]
    store = Store(tmp_path / "artifacts")
    summary = summarise(store, "tiny", "tiny_student", {0: comparison(case_of(arms))})
    by_name = {arm.name: arm for arm in summary.arms}
    accuracy = {name: 100 * arm.average.value for name, arm in by_name.items()}
    assert accuracy["strong"] < accuracy["instruct"] - 15
    assert accuracy["micota"] > accuracy["strong"] + 30
    merged, unmerged = summary.curve[config.merge.weight], summary.curve[1.0]
    assert 0.5 < merged.num_tokens / unmerged.num_tokens < 0.75
    assert merged.average.value > unmerged.average.value - 0.02
    bpc = {name: arm.bits_per_byte for name, arm in by_name.items()}
    assert bpc["micota"] < bpc["mix_long"] < min(bpc["half_size"], bpc["strong"])
