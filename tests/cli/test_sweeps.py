"""A sweep over several points checks all of them before the first, and a refused one leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from micota.cli.app import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MICOTA_ARTIFACTS", str(tmp_path / "artifacts"))
    return tmp_path


@pytest.mark.parametrize(("words", "line"), [
    (["seed=1,-1"], "error: seed=-1; accepted"),  # the second point is refused, and the first did not run
    (["seed=1,2"], "needs data strong"),  # the first point is refused when it runs
])  # fmt: skip
def test_a_refused_sweep_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", "experiment=tiny", "data=strong", "-m", *words])
    printed, errors = capsys.readouterr()
    assert line in errors and errors.count("\n") == 1 and printed == ""
    assert not list(folder.iterdir())


def test_a_sweep_of_plans_leaves_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "experiment=tiny", "data=strong", "plan=true", "-m", "seed=1"])
    assert "to make" in capsys.readouterr().out
    assert not list(folder.iterdir())
