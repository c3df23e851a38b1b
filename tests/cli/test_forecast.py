"""The command forecast, from a table of finished trainings."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL

from micota.artifacts.jsonl import read_jsonl
from micota.cli.forecast import forecast
from micota.config import COMMANDS, ForecastConfig
from micota.errors import ConfigError
from micota.records import FORECAST, ForecastRow


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Long data harm weak students: 8 of them, with two recipes each."""
    generator = random.Random(0)
    lines = ["student,recipe,seed,gain,num_tokens,accuracy_before"]
    for number in range(8):
        accuracy = generator.uniform(0.2, 0.9)
        for recipe, tokens in (("short", 40), ("strong", 150)):
            gain = (accuracy - 0.6) * (tokens / 100) + generator.gauss(0, 0.01)
            lines.append(f"s{number},{recipe},0,{gain},{tokens},{accuracy}")
    path = tmp_path / "trainings.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_list_of_recipes_is_what_is_compared() -> None:
    command = COMMANDS["forecast"]
    assert command.meant("data=[strong,short]") == "compare.recipes=[strong,short]"
    assert command.meant("data=strong") == "data=strong"
    assert COMMANDS["train"].meant("data=[strong,short]") == "data=[strong,short]"


def test_too_few_trainings_are_refused_before_anything_runs(composed: Callable[..., Any], tmp_path: Path) -> None:
    config: ForecastConfig = composed("forecast", *SMALL)
    config.artifacts = str(tmp_path / "artifacts")
    with pytest.raises(
        ConfigError, match=r"have finished trainings of 0 students besides tiny_student; accepted: at least 5"
    ):
        forecast(config)
    assert not (tmp_path / "artifacts").exists()


def test_recipes_without_data_are_refused(composed: Callable[..., Any], tmp_path: Path, table: Path) -> None:
    config: ForecastConfig = composed("forecast", *SMALL, "compare.recipes=[instruct]", f"outcomes={table}")
    config.artifacts = str(tmp_path / "artifacts")
    with pytest.raises(ConfigError, match=r"data=\[instruct\] has no recipe with data"):
        forecast(config)


@pytest.mark.slow  # two recipes are generated and measured
def test_the_gains_of_two_recipes_are_forecast(
    composed: Callable[..., Any], tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config: ForecastConfig = composed("forecast", *SMALL, "compare.recipes=[strong,short]", f"outcomes={table}")
    config.artifacts = str(tmp_path / "artifacts")
    forecast(config)
    [folder] = (tmp_path / "artifacts" / "forecasts").iterdir()
    rows = read_jsonl(folder / FORECAST, ForecastRow)
    assert [row.recipe for row in rows] == ["strong", "short"]
    assert all(row.low <= row.gain <= row.high and row.known["rank_surprisal_ratio"] > 0 for row in rows)
    assert (folder / "outcomes.csv").read_text().count("\n") == 17 and (folder / "skill.json").exists()
    text = capsys.readouterr().out
    assert "From 16 trainings of 8 other students" in text and "expected gain" in text
    assert not list((tmp_path / "artifacts").glob("models/*")), "nothing is trained"
    forecast(config)
    assert f"forecast: {folder / FORECAST}" in capsys.readouterr().out, "again, and nothing is made"
