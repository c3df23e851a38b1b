"""Completions survive kill -9 at any moment: nothing lost, nothing doubled, nothing changed."""

from __future__ import annotations

import os
import random
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from fork_server import ROOT, Command

from micota.artifacts.jsonl import read_jsonl
from micota.records import COMPLETIONS, Completion

COMMAND = [
    "experiment=tiny", "tracker=none", "data=strong", "select.num_examples=8", "select.filters=[finished]",
    "evaluation.num_workers=1",
]  # fmt: skip


def start(folder: Path, overrides: list[str], **how: Any) -> Command:
    env = os.environ | {"MICOTA_ARTIFACTS": str(folder)}
    return Command(str(ROOT / "generate.py"), [*COMMAND, *overrides], env, **how)


def num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob(f"completions/*/{COMPLETIONS}"))


def run_to_the_end(folder: Path, overrides: list[str]) -> dict[tuple[str, int], dict[str, Any]]:
    """Completions by id, without the times that they took."""
    with start(folder, overrides) as process:
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    (path,) = folder.glob(f"completions/*/{COMPLETIONS}")
    rows = read_jsonl(path, Completion)
    completions = {(row.problem_id, row.sample): asdict(row) | {"seconds": None} for row in rows}
    assert len(completions) == len(rows), "a completion was written twice"
    return completions


def kill_on_the_way(folder: Path, overrides: list[str], after_bytes: int) -> bool:
    """Start, and kill -9 after that many more bytes; False if the run ended before."""
    with start(folder, overrides) as process:
        goal = num_bytes(folder) + after_bytes
        while process.poll() is None and num_bytes(folder) < goal:
            time.sleep(0.0005)  # polls for the moment to kill at
        alive = process.poll() is None
        if alive:
            process.kill_group()
        process.communicate()
    return alive


@pytest.mark.parametrize(("engine", "num_problems", "num_kills"), [
    ([], 48, 1),
    pytest.param([], 640, 20, marks=pytest.mark.slow),
    pytest.param(["engine=vllm", "engine.memory_fraction=0.05"], 128, 3, marks=pytest.mark.vllm),
])  # fmt: skip
def test_after_kills_at_random_moments_no_completion_is_missing_or_doubled(
    tmp_path: Path, engine: list[str], num_problems: int, num_kills: int
) -> None:
    overrides = [*engine, f"problems.limit={num_problems}", "engine.batch_size=16"]
    undisturbed = run_to_the_end(tmp_path / "undisturbed", overrides)
    assert len(undisturbed) == num_problems
    folder = tmp_path / "killed"
    dice = random.Random(0)
    step = num_bytes(tmp_path / "undisturbed") // (num_kills + 2)
    kills = [kill_on_the_way(folder, overrides, dice.randint(1, step)) for _ in range(num_kills)]
    assert all(kills), "a run ended before it could be killed"
    (partial,) = folder.glob("completions/*.partial")
    assert 0 < len((partial / COMPLETIONS).read_bytes().splitlines()) < num_problems
    assert run_to_the_end(folder, overrides) == undisturbed


def test_a_full_disk_is_one_clear_error_and_costs_no_completion(tmp_path: Path) -> None:
    """The kernel refuses to let a file grow beyond a limit, which is what a full disk looks like to whoever writes."""
    overrides = ["problems.limit=48", "engine.batch_size=16"]
    undisturbed = run_to_the_end(tmp_path / "undisturbed", overrides)
    limit = num_bytes(tmp_path / "undisturbed") // 2
    folder = tmp_path / "full"
    with start(folder, overrides, max_file_bytes=limit) as process:
        _, errors = process.communicate()
    (partial,) = folder.glob("completions/*.partial")
    path = partial / COMPLETIONS
    assert process.returncode == 2 and errors.count("\n") == 1, errors
    assert f"error: cannot append to {path} (File too large); earlier rows are kept: free some space" in errors
    assert 0 < path.stat().st_size <= limit and len(read_jsonl(path, Completion)) > 0
    assert run_to_the_end(folder, overrides) == undisturbed


def test_a_problem_file_with_a_broken_line_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    broken = tmp_path / "problems.jsonl"
    broken.write_text('{"problem": "1+1", "answer": "2"}\n{"problem": "1+2", "ans\n')
    model = tmp_path / "no-weights-here"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").touch()  # which nothing can read
    overrides = [f"problems.path={broken}", f"teacher.path={model}", "problems.id_column=null"]
    with start(tmp_path / "artifacts", overrides) as process:
        _, errors = process.communicate()
    assert process.returncode == 2 and errors.count("\n") == 1, errors
    assert f"error: {broken}:2: not valid JSON" in errors
