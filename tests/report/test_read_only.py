"""A report in a folder that cannot be written to."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from micota.artifacts.store import Store
from micota.cli import report as command
from micota.config import Call
from micota.errors import ArtifactError
from micota.report.collect import CaseReport


def test_the_tables_are_printed_where_the_page_cannot_be_written(
    finished: tuple[Store, CaseReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, case = finished
    (tmp_path / "reports").write_text("a file")
    monkeypatch.setattr(command, "report_folder", lambda *_: tmp_path / "reports" / "tiny")
    monkeypatch.setattr(command, "finished_seeds", lambda *_: case.by_seed)
    monkeypatch.setattr(command, "case_reports", lambda *_: [case])
    compare = SimpleNamespace(baseline="instruct", stop=None)
    config: Any = SimpleNamespace(artifacts=str(store.root), name="tiny", compare=compare, seed=0, call=Call())
    printed = io.StringIO()
    with pytest.raises(
        ArtifactError, match=r"reports/tiny cannot be written \(Not a directory\): the page is not there"
    ):
        command.report(config, [], Console(file=printed, width=120))
    assert "micota" in printed.getvalue() and "instruct" in printed.getvalue()
