from __future__ import annotations

import os
import subprocess

import fork_server
from fork_server import ROOT

SCRIPT = str(ROOT / "benchmarks" / "sft_gpu.py")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return fork_server.run(SCRIPT, arguments, os.environ)


def test_the_dry_run_on_cpu_measures_all_that_a_gpu_run_would() -> None:
    sizes = ["--sizes", "tiny", "--examples", "12", "--batch-size", "4", "--pack-length", "256"]
    finished = run("--device", "cpu", "--contenders", "micota", "--precision", "32-true", *sizes)
    assert finished.returncode == 0, finished.stderr
    [header, _, row] = [[cell.strip() for cell in line.split("|")[1:-1]] for line in finished.stdout.splitlines()]
    cells = dict(zip(header, row, strict=True))
    assert (cells["size"], cells["contender"]) == ("tiny", "micota")
    assert float(cells["useful tok/s"]) > 0 and float(cells["peak memory"].removesuffix(" GB")) > 0
    assert (cells["attention, loss"], cells["checkpointing"]) == ("sequences, summed_nll", "none")
