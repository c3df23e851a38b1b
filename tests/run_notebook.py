"""Run a notebook without a kernel, which would spend seconds on imports: ``run_notebook.py NOTEBOOK PARAMETERS``.

The last line printed is JSON: for each cell of code, what it shows. A cell that fails ends the process.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import nbformat


def read_notebook(path: Path, parameters: str) -> Any:
    """The notebook, with ``parameters`` as the source of its cell of that tag."""
    notebook = nbformat.read(path, as_version=4)
    [cell] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    cell.source = parameters
    return notebook


def run(path: Path, parameters: str) -> list[list[Any]]:
    """For each cell of code, what it printed, displayed and returned."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    shell = InteractiveShell.instance()
    shown = []
    for cell in read_notebook(path, parameters).cells:
        if cell.cell_type != "code":
            continue
        with capture_output() as captured:
            finished = shell.run_cell(cell.source)
        finished.raise_error()
        displayed = [output.data for output in captured.outputs]
        value = [] if finished.result is None else [shell.display_formatter.format(finished.result)[0]]
        shown.append([*filter(None, [captured.stdout]), *displayed, *value])
    return shown


if __name__ == "__main__":
    path = Path(sys.argv[1])
    os.chdir(path.parent)
    print("\n" + json.dumps(run(path, sys.argv[2]), default=str))
