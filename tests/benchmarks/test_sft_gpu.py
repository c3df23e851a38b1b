from __future__ import annotations

import json
import os
import subprocess

import fork_server
import pytest
from fork_server import ROOT
from sft_gpu import category, warm_up

SCRIPT = str(ROOT / "benchmarks" / "sft_gpu.py")


TINY = [
    "--device",
    "cpu",
    "--contenders",
    "micota",
    "--precision",
    "32-true",
    "--sizes",
    "tiny",
    "--pack-length",
    "256",
]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return fork_server.run(SCRIPT, arguments, os.environ)


@pytest.mark.slow  # the run is in a process of its own; the next test measures one step in a fork
def test_the_dry_run_on_cpu_measures_all_that_a_gpu_run_would() -> None:
    finished = run(*TINY, "--examples", "12", "--batch-size", "4")
    assert finished.returncode == 0, finished.stderr
    [header, _, row] = [[cell.strip() for cell in line.split("|")[1:-1]] for line in finished.stdout.splitlines()]
    cells = dict(zip(header, row, strict=True))
    assert (cells["size"], cells["contender"]) == ("tiny", "micota")
    assert float(cells["useful tok/s"]) > 0 and float(cells["peak memory"].removesuffix(" GB")) > 0
    assert (cells["attention, loss"], cells["checkpointing"]) == ("sequences, summed_nll", "none")


def test_one_step_is_measured_where_there_are_no_more() -> None:
    finished = run(*TINY, "--examples", "3", "--batch-size", "4", "--profile", "--run", "micota:tiny")
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout.splitlines()[-1])
    assert result["steps"] == 1 and result["tokens_per_s"] > 0
    assert sum(result["profile"].values()) == pytest.approx(1, abs=0.1)
    assert result["profile"]["products"] > 0 and result["profile"]["attention"] > 0


@pytest.mark.parametrize(("num_steps", "expected"), [(1, 0), (2, 1), (3, 2), (8, 2)])
def test_first_steps_are_left_out_if_there_are_others(num_steps: int, expected: int) -> None:
    assert warm_up([0.0] * (num_steps + 1)) == expected


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("void flash_fwd_kernel<cutlass::bfloat16_t>", "attention"),
        ("nvjet_tst_128x256_64x4_2x1_v_bz_coopA_NTN", "products"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32", "products"),
        ("void at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor>", "optimiser"),
        ("Memcpy DtoD (Device -> Device)", "copies and casts"),
        ("void at::native::reduce_kernel<512, 1, MeanOps>", "sums and norms"),
        ("void at::native::vectorized_elementwise_kernel<4, MulFunctor>", "other elementwise"),
    ],
)
def test_kernels_are_sorted_by_name(kernel: str, expected: str) -> None:
    assert category(kernel) == expected
