from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fork_server
import pytest
from fork_server import ROOT
from gpu import RESERVE_S, Check, last_line, run_part
from gpu_page import BEGIN, END, write_page


def check(name: str, code: str, **options: Any) -> Check:
    return Check(part="speed", name=name, command=[sys.executable, "-c", code], **options)


def test_a_failed_check_does_not_stop_the_next_and_what_passed_is_kept() -> None:
    part = [
        check("fails", "raise ValueError('no kernel image')"),
        check("prints", "print('{\"a\": 1}')", read=last_line),
        check("prints nothing", "", read=last_line),
        check("is long", "", least_s=50),
        check("never ends", "import signal; signal.pause()"),
    ]
    results: dict[str, Any] = {}
    run_part(part, {}, RESERVE_S + 2.5, results.__setitem__)
    assert [result["status"] for result in results.values()] == ["failed", "passed", "failed", "left out", "left out"]
    assert results["fails"]["why"] == "exit code 1: ValueError: no kernel image"
    assert results["prints"]["figures"] == {"a": 1}
    assert results["is long"]["why"].endswith("it takes at least 50 s")
    assert "stopped" in results["never ends"]["why"]

    again: dict[str, Any] = {}
    run_part(part[:2], results, RESERVE_S + 5, again.__setitem__)
    assert [*again] == ["fails"]


FIGURES = {
    "tokens_per_s": 9000.0, "all_tokens_per_s": 9200.0, "mfu": 0.3, "peak_bytes": 50e9, "reserved_bytes": 55e9,
    "host_bytes": 3e9, "host_peak_bytes": 4e9, "estimated_bytes": 52e9, "attention": "varlen", "loss": "liger_nll",
    "checkpointing": "full", "steps": 4, "settings": "bf16-true, adamw",
}  # fmt: skip


def result(part: str, figures: dict[str, Any], status: str = "passed", why: str = "") -> dict[str, Any]:
    return {"part": part, "status": status, "seconds": 12.0, "why": why, "figures": figures, "commits": ["abc"]}


def test_the_page_gets_a_section_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Head\n\n{BEGIN}\nold\n{END}\n\ntail\n")
    test = {"name": "tests/a.py::test_kernels[cuda]", "outcome": "passed", "seconds": 0.1, "why": ""}
    checks = {
        "tests": result("correctness", {"tests": [test | {"figures": {"error": "1e-3"}}]}),
        "micota 3b": result("speed", FIGURES),
        "trl 3b": result("speed", FIGURES | {"tokens_per_s": 6000.0, "peak_bytes": 100e9}),
        "profile 3b": result("speed", FIGURES | {"profile": {"idle": 0.1, "products": 0.9}}),
        "memory 7b": result("size", {}, "failed", "CUDA out of memory | now"),
    }
    machine = {"gpu": "H200 (140 GiB)", "driver": "580", "versions": {"torch": "2.13.0"}}
    write_page(page, {"date": "2026-11-26", "machine": machine, "checks": checks})
    text = page.read_text()
    assert text.startswith("# Head\n") and text.endswith("\n\ntail\n") and "old" not in text
    for line in (
        "`make gpu` on 2026-11-26: H200 (140 GiB), driver 580, commit abc.",
        "Versions: torch 2.13.0.",
        "| `kernels[cuda]` | passed | error 1e-3 | 0.1 s |",
        "| micota 3b | 9000 | 9200 | 30 % | 50.0 GB | 4 | varlen, liger_nll | full |",
        "3b against TRL: 1.50 times the useful tokens/s, 0.50 of its memory.",
        "Time of a step, profile 3b: products 90 %, idle 10 %.",
        "- **memory 7b: failed.** CUDA out of memory \\| now",
    ):
        assert line in text.splitlines()
    write_page(page, {"date": "2026-11-27", "machine": machine, "checks": {}})
    assert "2026-11-27" in page.read_text() and "H200" in page.read_text() and "3b" not in page.read_text()


def test_the_page_of_this_project_has_the_marks() -> None:
    before, _, rest = (ROOT / "docs" / "benchmarks.md").read_text().partition(BEGIN)
    assert "## GPU\n" in before and END in rest


def test_a_machine_without_a_gpu_is_skipped_and_nothing_is_written(tmp_path: Path) -> None:
    finished = fork_server.run(
        str(ROOT / "benchmarks" / "gpu.py"),
        ["--results", str(tmp_path / "gpu")],
        os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    assert finished.returncode == 0 and "skipped: no GPU here" in finished.stdout
    assert not (tmp_path / "gpu").exists()


@pytest.mark.slow
def test_the_dry_run_passes_every_check_of_every_part(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="TRL is a peer to compare with, in the extra dev")
    command = [sys.executable, "benchmarks/gpu.py", "--dry-run", "--results", str(tmp_path)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    kept = json.loads((tmp_path / "results.json").read_text())
    assert {result["part"] for result in kept["checks"].values()} == {"correctness", "speed", "size"}
    assert {result["status"] for result in kept["checks"].values()} == {"passed"}
    assert len(kept["checks"]["tests"]["figures"]["tests"]) >= 4
    assert "tiny against TRL" in (tmp_path / "page.md").read_text()
