"""The whole method in a toy of the toy, run in ways that hurt it, and what must hold afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fork_server import ROOT, Command

from micota.artifacts.in_use import RUNNING
from micota.artifacts.jsonl import DRAFT
from micota.artifacts.locks import LOCK
from micota.artifacts.manifest import read_manifest
from micota.artifacts.store import DELETED, PARTIAL
from micota.records import SECONDS

# Every kind of stage, in seconds.
EVERY_STAGE = [
    "experiment=tiny", "tracker=none", "problems.limit=32", "select.num_examples=8", "select.filters=[finished]",
    "compare.recipes=[micota]", "compare.merge_weights=[]", "bench=[tiny_easy]", "bench.easy.limit=8",
    "compare.measures=[teacher,merges,scores,bpc,rank_shift,merge_sweep]", "merge_sweep.num_problems=4",
    "merge_sweep.densities=[0.5]", "merge_sweep.weights=[0.5]", "ta.sft.epochs=2", "student.sft.epochs=2",
    "trainer.checkpoint_every=1", "engine.batch_size=16", "evaluation.num_workers=1",
]  # fmt: skip
# Counts and metrics of a manifest that say how it was made, not what was made.
OF_THE_WAY = re.compile(r"(.*seconds.*|.*_per_s|resumed|points_measured|workers_replaced)")


def start(
    words: Sequence[str], artifacts: Path, script: str = "pipeline", env: Mapping[str, str] | None = None, **how: Any
) -> Command:
    """Start an entry script with an artifacts folder."""
    variables = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    variables |= {"MICOTA_ARTIFACTS": str(artifacts), "OMP_NUM_THREADS": "1", "COLUMNS": "200"} | (env or {})
    return Command(str(ROOT / f"{script}.py"), words, variables, **{"cwd": artifacts.parent} | how)


def finish(words: Sequence[str], artifacts: Path, **how: Any) -> str:
    """Run an entry script to its end; what it printed."""
    with start(words, artifacts, **how) as command:
        printed, errors = command.communicate()
    assert command.returncode == 0, errors
    return printed


def results(artifacts: Path) -> dict[str, Any]:
    """What was made, by folder: sums of all files, and the counts and metrics of manifests, without clock times."""
    found: dict[str, Any] = {}
    for path in sorted(artifacts.glob("*/*/manifest.json")):
        manifest = read_manifest(path.parent)
        figures = {
            name: value
            for name, value in (manifest.counts | manifest.metrics).items()
            if not OF_THE_WAY.fullmatch(name)
        }
        sums = {name: _sum(path.parent / name) for name in manifest.files if name != SECONDS}
        found[path.parent.relative_to(artifacts).as_posix()] = (figures, sums)
    return found


def _sum(path: Path) -> str:
    """The SHA-256 sum of a file; of rows without the seconds that they took, and nothing of a page that shows them."""
    if path.suffix == ".html":
        return ""
    content = path.read_bytes()
    if path.suffix == ".jsonl":
        rows = [
            {name: value for name, value in json.loads(line).items() if not OF_THE_WAY.fullmatch(name)}
            for line in content.splitlines()
        ]
        content = json.dumps(rows, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """A run of every stage that nothing has hurt; tests copy its artifacts before they change them."""

    artifacts: Path
    printed: str
    results: dict[str, Any]
    seconds: float


def undisturbed_run(folder: Path, words: Sequence[str] = ()) -> Undisturbed:
    """The run in a folder, if it is there, or a new one."""
    artifacts, record = folder / "artifacts", folder / "run.json"
    if not record.exists():
        artifacts.mkdir(parents=True)
        begun = time.monotonic()
        printed = finish([*EVERY_STAGE, *words], artifacts)
        record.write_text(json.dumps({"printed": printed, "seconds": time.monotonic() - begun}))
    return Undisturbed(artifacts=artifacts, results=results(artifacts), **json.loads(record.read_text()))


def left_behind(artifacts: Path) -> list[str]:
    """Unfinished builds, drafts of files and locks."""
    suffixes = (PARTIAL, DELETED, DRAFT, LOCK)
    paths = [path.relative_to(artifacts) for path in artifacts.rglob("*") if path.name.endswith(suffixes)]
    return sorted(str(path) for path in [*paths, *(artifacts / RUNNING).glob("*.json")])


def copied(undisturbed: Undisturbed, artifacts: Path, without: Sequence[str] = ()) -> Path:
    """A copy of finished artifacts without those of these patterns, which the next run makes again."""
    shutil.copytree(undisturbed.artifacts, artifacts)
    for pattern in without:
        found = list(artifacts.glob(pattern))
        assert found, f"there is no {pattern}"
        for path in found:
            shutil.rmtree(path)
    return artifacts


@contextmanager
def mounted(folder: Path, *words: str) -> Iterator[Path]:
    """A mount at a folder, which is made, until the end of the block; a test that may not mount is skipped."""
    folder.mkdir(parents=True, exist_ok=True)
    finished = subprocess.run(["mount", *words, str(folder)], capture_output=True, text=True, check=False)
    if finished.returncode:
        pytest.skip(f"this user may not mount ({finished.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Change the options of a mount, as the size of a disk in memory."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
