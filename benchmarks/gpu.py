"""What one GPU shows of this project: correctness, speed and size, in three parts of at most 9 minutes.

    make gpu [PART=correctness|speed|size]
    python benchmarks/gpu.py [--part correctness] [--budget 540] [--results artifacts/gpu] [--page docs/benchmarks.md]
    python benchmarks/gpu.py --only "micota 3b,trl 3b"  # checks by name
    python benchmarks/gpu.py --page-only  # the page from results that are there, as of another machine
    python benchmarks/gpu.py --dry-run  # tiny sizes on the CPU; the page goes to the folder of results

Each check is a process. A failed check is reported, and the next one runs. A check that does not fit the rest of the
budget is left out, and the page names it. Results are kept in ``results.json``: the same command runs what has not
passed, also after a change, and the page names the commit of each result. They start anew with another GPU, other
versions or ``--again``. No hub is needed: models are random.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from gpu_page import write_page

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("correctness", "speed", "size")
PACKAGES = ("torch", "transformers", "lightning", "trl", "flash-attn", "liger-kernel", "bitsandbytes")
RESERVE_S = 15  # of a part's budget, for processes that must be stopped and for the page
Result = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A process and what is read of it.

    Args:
        least_s: seconds that must be left of the budget for a start.
        read: from the printed text to figures; a check without it has none.
        tests: the file to which tests append a line each.
    """

    part: str
    name: str
    command: list[str]
    least_s: int = 0
    read: Callable[[str], Result] = lambda text: {}
    tests: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)


def checks(options: argparse.Namespace) -> Iterator[Check]:
    """All checks of all parts, in order."""
    dry, python = options.dry_run, sys.executable
    lines = options.results / "tests.jsonl"
    files = [
        str(p.relative_to(ROOT)) for p in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in p.read_text()
    ]
    chosen = ["-k", "stand_in and (losses or checkpointing or adapters)"] if dry else ["-m", "gpu"]
    yield Check(
        part="correctness", name="tests", tests=lines, least_s=60,
        command=[python, "-m", "pytest", "-q", "-p", "gpu", "-p", "no:cacheprovider", *chosen, *files],
        environment={"MICOTA_GPU_TESTS": str(lines), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
    )  # fmt: skip
    toy = ["experiment=tiny", "tracker=none", f"artifacts={options.results / 'toy'}"]
    toy += DRY_TOY if dry else ["trainer=gpu", "trainer.attention=auto", "engine.device=cuda"]
    yield Check(
        part="correctness", name="toy pipeline", command=[python, "-m", "micota", "pipeline", *toy], least_s=120,
        read=lambda text: {"rows": [line for line in text.splitlines() if "%" in line][-8:]},
    )  # fmt: skip

    train = [python, str(ROOT / "benchmarks" / "sft_gpu.py"), *(DRY_TRAINING if dry else [])]
    sizes = {"1.5b": 128, "3b": 64} if not dry else {"tiny": 12}
    for size, examples in sizes.items():
        for contender in ("micota", "trl"):
            yield Check(
                part="speed", name=f"{contender} {size}", least_s=75, read=last_line,
                command=[*train, "--run", f"{contender}:{size}", "--examples", str(examples)],
            )  # fmt: skip
    first = next(iter(sizes))
    profiled = ["--run", f"micota:{first}", "--examples", "12", "--batch-size", "4", "--profile"]
    yield Check(part="speed", name=f"profile {first}", command=[*train, *profiled], least_s=60, read=last_line)
    size = "tiny" if dry else "7b"
    settings = [] if dry else ["--precision", options.precision, "--optimizer", options.optimizer]
    yield Check(
        part="size", name=f"memory {size}", least_s=120, read=last_line,
        command=[*train, *settings, "--run", f"micota:{size}", "--examples", "24", "--batch-size", "8"],
    )  # fmt: skip


# Each stage of the pipeline for real, in seconds; sizes that a CPU trains in seconds.
DRY_TOY = [
    "problems.limit=96", "select.num_examples=24", "select.filters=[finished]", "compare.merge_weights=[]",
    "bench=[tiny_easy]", "bench.easy.limit=32", "ta.sft.epochs=1", "student.sft.epochs=1", "engine.batch_size=32",
]  # fmt: skip
DRY_TRAINING = ["--device", "cpu", "--precision", "32-true", "--pack-length", "256", "--batch-size", "4"]


def last_line(text: str) -> Result:
    """The JSON that a process prints last."""
    figures: Result = json.loads(text.splitlines()[-1])
    return figures


def machine(options: argparse.Namespace) -> Result:
    """What results are kept for: GPU, driver and versions."""
    import torch

    versions = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    if options.dry_run or not torch.cuda.is_available():
        return {"gpu": "none: a dry run on the CPU", "driver": "", "versions": versions}
    gib = torch.cuda.get_device_properties(0).total_memory / 2**30
    driver = output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    name = f"{torch.cuda.get_device_name(0)} ({gib:.0f} GiB)"
    return {"gpu": name, "driver": driver, "versions": versions}


def output_of(*command: str) -> str:
    """What a command prints, or "unknown" where it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def run_part(part: list[Check], kept: dict[str, Result], budget: float, record: Callable[[str, Result], None]) -> None:
    """Run the checks of a part that have not passed, within ``budget`` seconds."""
    deadline = time.monotonic() + budget - RESERVE_S
    for check in part:
        if kept.get(check.name, {}).get("status") == "passed":
            print(f"{check.part}: {check.name}: passed earlier", flush=True)
            continue
        left = deadline - time.monotonic()
        if left < check.least_s:
            why = (
                f"{max(0, left):.0f} s of the part's {budget:.0f} s were left, and it takes at least {check.least_s} s"
            )
            result: Result = {"status": "left out", "seconds": 0.0, "why": why, "figures": {}}
        else:
            result = run(check, left)
        record(check.name, result | {"part": check.part})
        print(
            f"{check.part}: {check.name}: {result['status']} in {result['seconds']:.0f} s {result['why']}", flush=True
        )


def run(check: Check, limit: float) -> Result:
    """The result of one check, which is stopped after ``limit`` seconds."""
    began = time.monotonic()
    passed = [test["name"] for test in tests_of(check) if test["outcome"] == "passed"]
    command = [*check.command, *(word for name in passed for word in ("--deselect", name))]
    paths = [str(ROOT / "benchmarks"), str(ROOT / "src"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"} | check.environment
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=limit)
        status, why = ("passed", "") if process.returncode == 0 else ("failed", reason(out, err, process.returncode))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        status, why = "left out", f"it was stopped after {limit:.0f} s, when the part's time was over"
    figures: Result = {}
    if status == "passed":
        try:
            figures = check.read(out)
        except (ValueError, IndexError) as error:
            status, why = "failed", f"its output cannot be read: {error}"
    if tests := tests_of(check):
        figures["tests"] = tests
    return {"status": status, "seconds": round(time.monotonic() - began, 1), "why": why, "figures": figures}


def reason(out: str, err: str, code: int) -> str:
    """The line that says why a process failed."""
    lines = [line.strip() for line in (out + "\n" + err).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E  ", "error:", "FAILED")) or "Error" in line.split(":")[0]]
    return f"exit code {code}: {(errors or lines or ['no output'])[-1][:300]}"


def tests_of(check: Check) -> list[Result]:
    """The last outcome of each test so far."""
    if check.tests is None or not check.tests.exists():
        return []
    lines = [json.loads(line) for line in check.tests.read_text().splitlines()]
    return [*{line["name"]: line for line in lines}.values()]


def pytest_runtest_logreport(report: Any) -> None:
    """As a plugin of pytest: append the outcome of a test, also where a later one ends the process."""
    path = os.environ.get("MICOTA_GPU_TESTS")
    if path and (report.when == "call" or (report.when == "setup" and not report.passed)):
        crash = getattr(report.longrepr, "reprcrash", None)  # where a test failed
        why = report.longrepr[2] if report.skipped else crash.message.partition("\n")[0] if crash else ""
        line = {"name": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 1)}
        line |= {"why": why, "figures": dict(report.user_properties)}
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")


def fitting(options: argparse.Namespace) -> tuple[str, str]:
    """Precision and optimiser of the 7B model: the first that fits the memory by the estimate; else the last."""
    import torch
    from sft_gpu import SIZES

    from micota.config import ShapeConfig, TrainerConfig
    from micota.config.optimizers import OPTIMIZERS
    from micota.sft.fitting import USABLE
    from micota.sft.memory import memory_bytes
    from micota.sft.shape import Shape

    ways = [("bf16-mixed", "adamw"), ("bf16-true", "adamw"), ("bf16-true", "adamw_8bit")]
    if options.dry_run or not torch.cuda.is_available():
        return ways[0]
    capacity = USABLE * torch.cuda.get_device_properties(0).total_memory
    s = SIZES["7b"]
    shape = ShapeConfig(
        hidden=s["h"], intermediate=s["i"], layers=s["l"], heads=s["a"], kv_heads=s["k"], vocab=s["v"], tied=s["t"]
    )
    for precision, optimizer in ways:
        trainer = TrainerConfig(
            name="benchmark", accelerator="gpu", precision=precision, pack_length=16384, activation_checkpointing="full"
        )
        sized = Shape.from_config(shape)
        sized = Shape(**vars(sized) | {"moment_bytes": OPTIMIZERS[optimizer].moment_bytes})
        if sum(memory_bytes(sized, trainer, 16384).values()) <= capacity:
            return precision, optimizer
    return ways[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default="all", choices=["all", *PARTS])
    parser.add_argument("--budget", type=float, default=540.0, help="seconds of a part")
    parser.add_argument("--results", type=Path, default=ROOT / "artifacts" / "gpu")
    parser.add_argument("--page", type=Path, help="default: docs/benchmarks.md, or page.md beside the results")
    parser.add_argument("--only", help="names of checks, with commas")
    parser.add_argument("--again", action="store_true", help="run what has passed, too")
    parser.add_argument("--page-only", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    options.results = options.results.resolve()
    page = options.page or (options.results / "page.md" if options.dry_run else ROOT / "docs" / "benchmarks.md")
    path = options.results / "results.json"
    kept: Result = json.loads(path.read_text()) if path.exists() else {}
    if options.page_only:
        write_page(page, kept)
        return 0
    import torch

    if not options.dry_run and not torch.cuda.is_available():
        print("skipped: no GPU here (--dry-run is a dry run of all of it)")
        return 0
    options.results.mkdir(parents=True, exist_ok=True)
    here = machine(options)
    if kept.get("machine") != here or options.again:
        (options.results / "tests.jsonl").unlink(missing_ok=True)
        kept = {"machine": here, "checks": {}}
    options.precision, options.optimizer = fitting(options)

    commit = output_of("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")

    def record(name: str, result: Result) -> None:
        earlier = kept["checks"].get(name, {}).get("commits", []) if result["figures"].get("tests") else []
        kept["checks"][name] = result | {"commits": [*dict.fromkeys([*earlier, commit])]}
        kept["date"] = datetime.now(UTC).strftime("%Y-%m-%d")
        path.write_text(json.dumps(kept, indent=2) + "\n")
        write_page(page, kept)

    chosen = PARTS if options.part == "all" else (options.part,)
    everything = [check for check in checks(options) if options.only is None or check.name in options.only.split(",")]
    for part in chosen:
        run_part([check for check in everything if check.part == part], kept["checks"], options.budget, record)
    print(f"results: {path}; page: {page}")
    return int(any(result["status"] == "failed" for result in kept["checks"].values()))


if __name__ == "__main__":
    sys.exit(main())
