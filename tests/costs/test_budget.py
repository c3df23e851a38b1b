"""What fits into a number of GPU-hours."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from conftest import thorough_after
from rich.console import Console

from micota.analysis.statistics import minimum_detectable_effect, paired_error
from micota.artifacts.store import Store
from micota.cli.experiments import cases
from micota.costs import budget as module
from micota.costs.budget import Budget, show_budget
from micota.costs.table import costs_of
from micota.errors import ConfigError
from micota.graph import experiment, unique
from micota.runtime.plan import tasks_of

WORDS = ["experiment=micota", "student=qwen1.5b", "hardware=h100x8", "bench=[gsm8k,math500]", "plan=true"]


@pytest.fixture
def budget(composed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Budget:
    monkeypatch.setattr(module, "SEEDS", (1, 3))
    monkeypatch.setattr(module, "SAMPLES", (1, 4))
    config = composed("pipeline", *WORDS, "budget_gpu_hours=40")
    return Budget(config, cases(config), Store("/nonexistent"))


def test_the_whole_costs_what_the_plan_says_and_more_costs_more(budget: Budget, composed: Callable[..., Any]) -> None:
    config = composed("pipeline", *WORDS)
    made = experiment(cases(config))
    tasks = [(task.command, task.nodes) for task in tasks_of(unique(made.targets()))]
    planned = costs_of(config, Store("/nonexistent"), tasks, made.configs).total.device_seconds / 3600
    hours = {(one.recipes, one.seeds, one.samples): one.hours for one in budget.choices()}
    assert hours[4, 1, 1] == pytest.approx(planned)
    assert hours[2, 1, 1] < hours[3, 1, 1] < hours[4, 1, 1] < hours[4, 1, 4] < hours[4, 3, 4]
    assert hours[4, 3, 1] < 3 * hours[4, 1, 1], "the instruct models answer greedily: their answers depend on no seed"


def test_the_detectable_difference_is_that_of_the_paired_test(budget: Budget) -> None:
    problems = {"gsm8k": 1319, "math500": 500}
    whole = paired_error(problems, dict.fromkeys(problems, 0.3))
    assert budget.choice(2, 1, 1).detectable == pytest.approx(minimum_detectable_effect(whole))
    assert budget.choice(4, 1, 1).detectable == pytest.approx(minimum_detectable_effect(whole, num_comparisons=3))
    assert minimum_detectable_effect(1.0, num_comparisons=3) == pytest.approx(2.3940 + 0.8416, abs=1e-3)
    more = paired_error(problems, dict.fromkeys(problems, 0.15 * (1 + 1 / 12)))
    assert budget.choice(2, 3, 4).detectable == pytest.approx(minimum_detectable_effect(more))


@pytest.mark.parametrize("width", thorough_after(1, [80, 120]))
def test_it_says_what_fits(budget: Budget, width: int) -> None:
    out = StringIO()
    show_budget(budget, 40, Console(file=out, width=width, highlight=False, soft_wrap=True))
    text = out.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    rows = [line.split() for line in text.splitlines() if line.split()[-2:-1] in (["yes"], ["no"])]
    assert rows and all((row[4] == "yes") == (float(row[3]) <= 40) for row in rows)
    assert "Of what fits, " in text and "instruct, strong, mix_long, micota" in text
    out = StringIO()
    show_budget(budget, 0.1, Console(file=out, width=width))
    assert "Nothing fits: 2 recipes at one seed take" in out.getvalue()


def test_a_budget_is_of_a_plan(composed: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="budget_gpu_hours=40 is of a plan, and runs nothing; accepted: with plan=true"
    ):
        composed("pipeline", "budget_gpu_hours=40")
