"""A stopping rule over seeds: what is decided runs no more, and the report has every recipe at its own seeds."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from conftest import case_of
from rich.console import Console
from synthetic_store import PROFILES, answer_all

from micota.artifacts.store import Store
from micota.cli.report import report
from micota.cli.stopping import progress, undecided
from micota.config import PipelineConfig
from micota.errors import ConfigError
from micota.graph import CaseConfig, experiment

RECIPES = ("instruct", "strong", "short")  # strong is far worse than instruct, short about equal
WORDS = [
    "experiment=tiny",
    "compare.recipes=[instruct,strong,short]",
    "compare.measures=[scores]",
    "compare.stop.seeds=[3,0,1]",
    *(f"bench.{level}.limit=40" for level in ("easy", "medium", "hard")),
]


@pytest.fixture
def config(composed: Callable[..., Any], tmp_path: Path) -> PipelineConfig:
    found: PipelineConfig = composed("pipeline", *WORDS)
    found.artifacts = str(tmp_path / "artifacts")
    return found


@pytest.fixture
def cases(composed: Callable[..., Any], config: PipelineConfig) -> list[CaseConfig]:
    case = case_of([composed("pipeline", *WORDS, f"data={recipe}") for recipe in RECIPES])
    return [case]


def finish(store: Store, cases: list[CaseConfig], seed: int) -> None:
    for case in experiment([case.at_seed(seed) for case in cases]).cases:
        for recipe in case.comparison.recipes:
            answer_all(store, recipe.scores, seed, *PROFILES[recipe.name])


def test_a_decided_recipe_runs_no_more_seeds(config: PipelineConfig, cases: list[CaseConfig]) -> None:
    store = Store(config.artifacts)
    assert progress(config, cases, store).by_seed == {}
    finish(store, cases, 3)
    found = progress(config, cases, store)
    assert list(found.by_seed) == [3]
    assert [one[-1].decision for one in found.looks[0].values()] == ["worse", None]
    [going_on] = found.going_on(cases)
    assert [recipe.name for recipe in going_on.recipes] == ["instruct", "short"]

    for seed in (0, 1):
        finish(store, [going_on], seed)
    found = progress(config, cases, store)
    assert list(found.by_seed) == [3, 0, 1]
    assert [len(one) for one in found.looks[0].values()] == [1, 3]
    assert found.looks[0]["short"][-1].fraction == 1.0

    out = StringIO()
    page = report(config, cases, Console(file=out, width=200))
    text = out.getvalue()
    assert "strong is decided after 1 seed: worse (z -" in text
    assert "short is not distinguishable after all (z " in text
    assert "strong is decided after 1 seed" in page.read_text(encoding="utf-8")
    assert (page.parent / "looks.csv").read_text(encoding="utf-8").count("\n") == 1 + 1 + 3, (
        "a line of names, and looks"
    )
    rows = [line.split(",") for line in (page.parent / "results.csv").read_text(encoding="utf-8").splitlines()]
    model, count = rows[0].index("model"), rows[0].index("num_seeds")
    assert {row[model]: row[count] for row in rows[1:]} == {"instruct": "3", "strong": "1", "short": "3"}


def test_a_later_seed_counts_only_after_those_before_it(config: PipelineConfig, cases: list[CaseConfig]) -> None:
    store = Store(config.artifacts)
    finish(store, cases, 0)
    assert progress(config, cases, store).by_seed == {}, "seed 3 is first"
    finish(store, cases, 3)
    assert list(progress(config, cases, store).by_seed) == [3, 0]
    assert list(progress(config, cases, store, before=0).by_seed) == [3]


def test_the_pipeline_leaves_out_what_is_decided(config: PipelineConfig, cases: list[CaseConfig]) -> None:
    store = Store(config.artifacts)
    finish(store, cases, 3)
    out = StringIO()
    config.seed = 0
    [case] = undecided(config, cases, store, Console(file=out, width=200))
    assert [recipe.name for recipe in case.recipes] == ["instruct", "short"]
    assert "Looks after each of 3 planned seeds: strong is decided after 1 seed" in out.getvalue()
    case.recipes.pop()
    assert progress(config, [cases[0]], store).going_on([case]) == [], "the baseline alone has nothing to decide"


def test_a_seed_that_is_not_planned_is_refused(config: PipelineConfig, cases: list[CaseConfig]) -> None:
    config.seed = 7
    with pytest.raises(ConfigError, match=r"seed=7 is none of compare.stop.seeds=\[3, 0, 1\]; accepted: one of these"):
        undecided(config, cases, Store(config.artifacts), Console(file=StringIO()))


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("compare.stop.seeds=[1]", "at least two different seeds"),
        ("compare.stop.seeds=[1,1]", "at least two different seeds"),
        ("compare.stop.seeds=[-1,1]", "at least two different seeds"),
        ("compare.stop.spending=pocok", "accepted: one of obrien_fleming, pocock"),
        ("compare.stop.futility=1", "a share of at least 0 and below 1"),
        ("compare.recipes=[strong,short]", "needs scores among the measures, and the baseline (instruct)"),
        ("compare.measures=[bpc]", "needs scores among the measures"),
    ],
)
def test_wrong_rules_are_one_line(composed: Callable[..., Any], word: str, line: str) -> None:
    with pytest.raises(ConfigError) as error:
        composed("pipeline", *WORDS, word)
    assert line in str(error.value)
