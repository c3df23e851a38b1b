"""Notebooks as they are committed: without outputs, and without logic of their own. What they show is tested where a
pipeline has run (test_pipeline.py)."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
from fork_server import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LOGIC = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.If, ast.IfExp, ast.With,
    ast.Try, ast.Match, ast.comprehension, ast.BinOp, ast.BoolOp, ast.Compare,
)  # fmt: skip


def test_there_are_four() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_committed_without_outputs_and_hold_no_logic(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        assert cell.outputs == [] and cell.execution_count is None
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, LOGIC), f"logic belongs into micota.report: {ast.unparse(node)}"
            if isinstance(node, ast.ImportFrom):
                assert node.module == "IPython.display" or str(node.module).split(".")[0] == "micota"
            if isinstance(node, ast.Import):
                assert [alias.name for alias in node.names] == ["micota"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_begin_with_what_to_run_and_how_to_read_it(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert "micota pipeline experiment=tiny" in texts[0] and len(texts) >= 3
    [parameters] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert parameters.source.startswith("overrides = [")
