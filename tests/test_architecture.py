"""The walls of the house: who may import whom, and who may import heavy libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "micota"
ROWS = [
    {"config", "records"},
    {"endpoint"},
    {"graph", "artifacts", "prompts", "answers", "statistics", "sources", "console"},
    {"filters", "decontamination", "datacard", "findings"},
    {"packing", "export"},
    {"losses"},
    {"engines", "sft", "merging", "analysis", "tracking", "tiny"},
    {"report"},
    {"stages"},
    {"doors"},
    {"experiments"},
    {"notebook"},
]
ROW = {room: number for number, row in enumerate(ROWS) for room in row}
HEAVY = {"torch", "transformers", "lightning", "vllm", "ray", "mergekit", "wandb", "datasets", "peft", "plotly"}
LAZY = {"vllm", "ray", "mergekit", "wandb", "datasets", "peft"}
REPORT_SEES = {"config", "records", "artifacts", "statistics", "graph", "sources", "findings"}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative imports hide walls"
            whole = node.module == "micota"
            found |= {f"micota.{alias.name}" for alias in node.names} if whole else {node.module}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_rooms_import_only_from_rows_below(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    assert room in ROW, f"{room} has no place in the house; put it in a row"
    for name in imports(path):
        if not name.startswith("micota."):
            continue
        other = name.split(".")[1]
        if other == room or other.startswith("__"):
            continue
        assert ROW[other] < ROW[room], f"{room} imports {other}, which is not in a row below it"
        if room == "report":
            assert other in REPORT_SEES, f"report reads artifacts alone, it may not import {other}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_heavy_libraries_stay_in_their_rows(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    heavy = {name.split(".")[0] for name in imports(path)} & HEAVY
    if ROW[room] < ROW["packing"]:
        assert heavy <= {"datasets"}, f"{room} must do without {heavy}"
    lazy = {name.split(".")[0] for name in imports(path, top_level_only=True)} & LAZY
    assert not lazy, f"{room} must import {lazy} where it is used"


def test_engines_know_only_their_protocol() -> None:
    for path in (SOURCE / "engines").glob("*.py"):
        inside = {name for name in imports(path, top_level_only=True) if name.startswith("micota.engines.")}
        assert inside <= {"micota.engines.base"}, path


@pytest.mark.parametrize("module", ["micota.doors", "micota.stages.make", "micota.stages.pipeline"])
def test_doors_start_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit(', '.join({HEAVY!r} & set(sys.modules)) or 0)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("door", sorted(SOURCE.parents[1].glob("*.py")), ids=lambda path: path.name)
def test_doors_are_thin(door: Path) -> None:
    assert len(door.read_text().splitlines()) <= 30
