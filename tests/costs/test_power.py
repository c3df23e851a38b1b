"""What an experiment can detect, as its plan says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from synthetic_store import case_report

from micota.analysis.statistics import minimum_detectable_effect, paired_error
from micota.artifacts.store import Store
from micota.costs.power import PlannedTests, planned_tests, show_power
from micota.graph import Case, Experiment
from micota.report.collect import CaseReport


@pytest.fixture
def tests() -> PlannedTests:
    return PlannedTests(
        baseline="instruct",
        num_comparisons=2,
        problems={"aime24": 30, "gsm8k": 1319},
        samples={"aime24": 16, "gsm8k": 1},
        discordance={"aime24": 0.2, "gsm8k": 0.1},
        measured=["gsm8k"],
    )


def test_the_detectable_difference_is_that_of_the_corrected_test(tests: PlannedTests) -> None:
    error = paired_error({"gsm8k": 1319}, {"gsm8k": 0.1})
    assert tests.detectable(1, ["gsm8k"]) == pytest.approx(minimum_detectable_effect(error, num_comparisons=2))
    error = paired_error(tests.problems, {"aime24": 0.1 * (1 + 1 / 48), "gsm8k": 0.05 * (1 + 1 / 3)})
    assert tests.detectable(3) == pytest.approx(minimum_detectable_effect(error, num_comparisons=2))
    assert replace(tests, num_comparisons=1).detectable(3) < tests.detectable(3)


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_says_what_is_assumed(tests: PlannedTests, width: int) -> None:
    out = StringIO()
    show_power([replace(tests, labels=["3", "4"])], Console(file=out, width=width, highlight=False, soft_wrap=True))
    lines = out.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    assert any("each of 2 recipes" in line for line in lines)
    [aime] = [line.split() for line in lines if line.startswith("aime24")]
    assert aime[1:5] == ["30", "16", "20", "assumed"]
    assert [line.split()[1:4] for line in lines if line.startswith("gsm8k")] == [["1319", "1", "10"]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, CaseReport]:
    store = Store(tmp_path_factory.mktemp("power") / "artifacts")
    return store, case_report(store, seeds=(0,), limit=20)


def test_finished_results_give_the_discordance(
    finished: tuple[Store, CaseReport], composed: Callable[..., Any]
) -> None:
    store, case = finished
    made = Experiment(
        cases=[Case(labels={"student": name}, student="tiny", comparison=case.by_seed[0]) for name in "ab"], configs={}
    )
    [tests] = planned_tests(composed("pipeline", "experiment=tiny"), store, made)
    assert tests.measured == list(tests.problems) == ["easy", "medium", "hard"]
    assert tests.problems == dict.fromkeys(tests.problems, 20)
    assert tests.num_comparisons == 6 and tests.labels == ()
    assert all(0.2 < share < 0.6 for share in tests.discordance.values())
