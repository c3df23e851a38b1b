"""The benchmark of forecasts prints skill for students and sizes left out, and draws every training."""

import sys
from pathlib import Path

import forecast_skill
import numpy as np
import pytest


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Seven sizes of two students each, where long data help the larger ones alone."""
    generator = np.random.default_rng(0)
    lines = ["student,recipe,seed,gain,num_tokens,num_parameters"]
    for power in range(7):
        for part in "ab":
            for recipe, tokens in (("short", 40), ("micota", 80), ("strong", 150)):
                gain = (power - 3) * tokens / 1000 + generator.normal(0, 0.01)
                lines.append(f"s{power}{part},{recipe},0,{gain},{tokens},{10**power}")
    path = tmp_path / "outcomes.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_it_judges_students_and_sizes(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = table.with_suffix(".html")
    monkeypatch.setattr(sys, "argv", ["forecast_skill.py", str(table), "--figure", str(page)])
    forecast_skill.main()
    text = capsys.readouterr().out
    assert "42 trainings of 14 students" in text and "each size left out" in text and "always micota" in text
    assert "100000 parameters, seed 0" in page.read_text(encoding="utf-8")
