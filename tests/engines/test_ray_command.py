"""``generate.py engine=ray`` as a user starts it: two workers on this machine, one of which is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from micota.artifacts.jsonl import read_jsonl
from micota.records import COMPLETIONS, Completion

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ["experiment=tiny", "data=strong", "problems.limit=160", "select.num_examples=null", "tracker=none",
            "teacher.sampling.temperature=1", "engine.dtype=float32", "engine.memory_fraction=0.05",
            "engine.batch_size=8"]  # fmt: skip


def started(folder: Path, *settings: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "generate.py", *SETTINGS, *settings, f"artifacts={folder}"]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "PYTHONPATH": str(ROOT / "src")}
    with open(f"{folder}.log", "wb") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)


def rows_of(folder: Path) -> list[Completion]:
    [path] = folder.glob(f"completions/*/{COMPLETIONS}")
    return [replace(row, seconds=0.0) for row in read_jsonl(path, Completion)]


def num_rows(folder: Path) -> int:
    """The complete rows of a file that grows, in whatever folder it is made."""
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob(COMPLETIONS))


def workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if child.name().startswith("ray::MapWorker")]


@pytest.mark.ray
def test_the_command_gives_every_row_once_though_a_worker_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray.data.llm")
    by_ray, by_vllm = tmp_path / "ray", tmp_path / "vllm"
    process = started(by_ray, "engine=ray", "engine.ray.workers=2")
    try:
        while num_rows(by_ray) < 5:
            assert process.poll() is None, Path(f"{by_ray}.log").read_text()[-3000:]
            time.sleep(0.05)
        alive = workers(process)
        assert len(alive) == 2 and num_rows(by_ray) < 160
        alive[0].kill()
        assert process.wait(600) == 0, Path(f"{by_ray}.log").read_text()[-3000:]
    finally:
        process.kill()
    assert started(by_vllm, "engine=vllm").wait(600) == 0, Path(f"{by_vllm}.log").read_text()[-3000:]
    rows = rows_of(by_ray)
    assert len(rows) == len({(row.problem_id, row.sample) for row in rows}) == 160
    assert {row.problem_id: row for row in rows} == {row.problem_id: row for row in rows_of(by_vllm)}
