"""The import rules: which package may import which, no circle anywhere, and who may import heavy libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
from graphlib import TopologicalSorter
from importlib.machinery import PathFinder
from pathlib import Path

import pytest
from conftest import thorough_after

SOURCE = Path(__file__).resolve().parents[1] / "src" / "micota"
# Each layer may import from those above it in this list, and packages of one layer not from each other.
LAYERS = [
    {"processes", "records", "seeding", "machine", "secrets", "shell", "visible"},
    {"errors"},
    {"config"},
    {"graph", "analysis", "console", "endpoint", "limits", "template_trial"},
    {"artifacts"},
    {"grading"},
    {"data"},
    {"checkpoint", "model_files", "weight_files"},
    {"export", "pretrained"},
    {"engines"},
    {"sft", "merging", "report", "tracking", "tiny"},
    {"forward", "costs"},
    {"runtime"},
    {"stages"},
    {"cli"},
    {"api"},
]
LAYER = {package: number for number, layer in enumerate(LAYERS) for package in layer}
HEAVY = {"torch", "transformers", "lightning", "vllm", "ray", "mergekit", "wandb", "datasets", "peft", "plotly"}
LAZY = {"vllm", "ray", "mergekit", "wandb", "datasets", "peft", "scipy", "huggingface_hub"}
# Artifacts alone, no model.
REPORT_READS = {"console", "config", "records", "artifacts", "analysis", "graph", "data", "errors", "visible"}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def package_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative imports hide what they import"
            whole = node.module == "micota"
            found |= {f"micota.{alias.name}" for alias in node.names} if whole else {node.module}
    return found


def imported_packages(path: Path) -> set[str]:
    found = {name.split(".")[1] for name in imports(path) if name.startswith("micota.")}
    return {name for name in found if not name.startswith("__")} - {package_of(path)}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_packages_import_only_from_layers_below(path: Path) -> None:
    package = package_of(path)
    if package.startswith("__"):
        return
    assert package in LAYER, f"{package} has no place in the import order; put it in a layer"
    for other in imported_packages(path):
        assert LAYER[other] < LAYER[package], f"{package} imports {other}, which is not in a layer below it"
        if package == "report":
            assert other in REPORT_READS, f"report reads artifacts alone, it may not import {other}"


def test_modules_import_each_other_in_no_circle() -> None:
    names = {".".join(("micota", *path.relative_to(SOURCE).with_suffix("").parts)): path for path in modules()}
    order: TopologicalSorter[str] = TopologicalSorter()
    for name, path in names.items():
        order.add(name, *(imports(path, top_level_only=True) & names.keys()))
    order.prepare()  # raises CycleError with the circle


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_heavy_libraries_stay_in_their_layers(path: Path) -> None:
    package = package_of(path)
    if package.startswith("__"):
        return
    heavy = {name.split(".")[0] for name in imports(path)} & HEAVY
    if LAYER[package] < LAYER["checkpoint"]:
        assert heavy <= {"datasets"}, f"{package} must do without {heavy}"
    lazy = {name.split(".")[0] for name in imports(path, top_level_only=True)} & LAZY
    assert not lazy, f"{package} must import {lazy} where it is used"


def test_engines_know_only_their_protocol() -> None:
    for path in (SOURCE / "engines").glob("*.py"):
        inside = {name for name in imports(path, top_level_only=True) if name.startswith("micota.engines.")}
        assert inside <= {"micota.engines.base"}, path


@pytest.mark.parametrize(
    "module",
    thorough_after(
        1,
        [
            "micota.cli.pipeline",
            "micota.cli.app",
            "micota.stages.registry",
            "micota.runtime.execute",
            "micota.runtime.runners",
        ],
    ),
)
def test_commands_start_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit(', '.join({HEAVY | LAZY!r} & set(sys.modules)) or 0)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("command", sorted(SOURCE.parents[1].glob("*.py")), ids=lambda path: path.name)
def test_commands_are_thin(command: Path) -> None:
    assert len(command.read_text().splitlines()) <= 30


def test_no_module_of_tests_hides_a_package() -> None:
    """pytest finds the modules of tests/ and benchmarks/ first: a coverage.py there stopped ``make coverage``."""
    for module in (path for folder in ("tests", "benchmarks") for path in SOURCE.parents[1].glob(f"{folder}/*.py")):
        package = PathFinder.find_spec(module.stem, [sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")])
        assert package is None, f"{module.name} hides the installed package of that name"
