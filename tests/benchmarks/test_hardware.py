"""The table of hardware in the docs is what the package estimates."""

from __future__ import annotations

import hardware
import pytest
from fork_server import ROOT


def test_the_docs_have_the_estimates(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["hardware.py"])
    hardware.main()
    page = (ROOT / "docs" / "reference" / "hardware.md").read_text(encoding="utf-8")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| train.py")]
    assert len(rows) == len(hardware.TRAININGS)
    for row in rows:
        assert row.partition("|")[2].partition("|")[2] in page, row
