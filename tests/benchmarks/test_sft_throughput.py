from __future__ import annotations

import json
import os
from pathlib import Path

import fork_server
import pytest
from fork_server import ROOT

from micota.data.sources import model_folder

SCRIPT = str(ROOT / "benchmarks" / "sft_throughput.py")


def options(tmp_path: Path) -> list[str]:
    """The same model, tokens, order and settings for every contender, and 20 steps."""
    rows = [
        {
            "problem": f"Ana has {n % 10} pens:+{n % 7} mod 10?",
            "solution": f"{n % 10}+{n % 7}={(n + n % 7) % 10}.\n" * (1 + n % 5),
        }
        for n in range(40)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ["--data", str(tmp_path / "rows.jsonl"), "--model", model_folder("bundled:ta"), "--examples", "40"]
    steps = [
        "--batch-size",
        "2",
        "--micro-batch",
        "2",
        "--max-tokens",
        "128",
        "--learning-rate",
        "1e-3",
        "--threads",
        "1",
    ]
    return [*files, *steps]


def test_a_contender_measures_all_that_is_compared(tmp_path: Path) -> None:
    finished = fork_server.run(SCRIPT, [*options(tmp_path), "--run", "micota"], os.environ)
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout.splitlines()[-1])
    assert len(result["losses"]) == 20 and result["losses"][-1] < result["losses"][0]
    assert min(result[name] for name in ("useful", "tokens_per_s", "cpu_seconds", "peak_bytes")) > 0


@pytest.mark.slow  # two processes of their own, of which one imports TRL
def test_the_loss_curve_of_20_steps_is_that_of_trl(tmp_path: Path) -> None:
    """AdamW, cosine, clipping, loss over all supervised tokens of a step."""
    pytest.importorskip("trl", reason="TRL is a peer to compare with, in the extra dev")
    finished = fork_server.run(SCRIPT, ["--losses", *options(tmp_path)], os.environ)
    assert finished.returncode == 0, finished.stderr
    [_, *lines, last] = finished.stdout.splitlines()
    curve = [[float(word) for word in line.split()] for line in lines]
    assert [int(step) for step, *_ in curve] == list(range(1, 21))
    assert curve[-1][1] < curve[0][1]
    assert all(abs(value - expected) < 1e-3 for _, value, expected, _ in curve), last
