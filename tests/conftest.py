"""What tests share: composed configs, the doors as a user starts them, and a small experiment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest

from micota import doors
from micota.answers.grading import Graders
from micota.config import SCHEMAS
from micota.graph import ArmConfig, CaseConfig

ROOT = Path(__file__).resolve().parents[1]
# A miniature of the miniature: every stage runs for real, in seconds.
SMALL = [
    "experiment=tiny",
    "tracker=none",
    "problems.limit=96",
    "select.num_examples=24",
    "select.filters=[finished]",
    "compare.merge_weights=[]",
    "bench=[tiny_easy]",
    "bench.easy.limit=32",
    "ta.sft.epochs=1",
    "student.sft.epochs=1",
    "trainer.checkpoint_every=1",
    "engine.batch_size=32",
]


def case_of(arms: list[Any]) -> CaseConfig:
    """One case without axes, of configs that differ in ``data`` alone."""
    return CaseConfig(config=arms[0], arms=[ArmConfig(name=arm.data.name, config=arm) for arm in arms])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="module")
def graders() -> Iterator[Graders]:
    """Graders with one worker process, shared by the tests of a file."""
    with Graders(num_workers=1, seconds=20.0) as opened:
        yield opened


@pytest.fixture
def composed() -> Iterator[Callable[..., Any]]:
    """``composed("train", "student=qwen1.5b")``: the checked config of a door."""
    with hydra.initialize_config_dir(str(doors.CONF), version_base="1.3"):
        yield lambda door, *overrides: doors.prepare(
            hydra.compose(door, overrides=list(overrides)), SCHEMAS[door], list(overrides)
        )


@pytest.fixture
def run_door(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Start an entry script as a user does, with artifacts in a folder of the test."""

    def run(door: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
        env |= {"MICOTA_ARTIFACTS": str(tmp_path / "artifacts"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"} | environment
        return subprocess.run(
            [sys.executable, str(ROOT / f"{door}.py"), *arguments],
            capture_output=True,
            text=True,
            env=env,
            cwd=tmp_path,
            check=False,
            timeout=600,
        )

    return run
