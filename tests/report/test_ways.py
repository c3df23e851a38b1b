"""The cost of a recipe counts what was made for it alone, and the figure shows it beside the accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from micota import graph
from micota.analysis.intervals import Estimate
from micota.artifacts.store import Store
from micota.graph import Recipe
from micota.graph.node import AnyNode
from micota.report.collect import Summary
from micota.report.figures import captions, figures
from micota.report.rows import Row
from micota.report.spent import Spent, spent_by
from micota.report.style import over_cost

COST = {"train": 7.0, "generate": 10.0}


def recipe(config: Any, store: Store) -> Recipe:
    """A recipe whose artifacts exist, empty but for their costs."""
    scores = graph.scores(config, "student")
    for node in {each.folder: each for one in scores.values() for each in one.walk() if not each.is_source}.values():
        with store.build(node, config.seed) as build:
            if build is not None:
                build.metrics |= {f"flops_{node.stage}": COST[node.stage]} if node.stage in COST else {}
    return Recipe(name=config.data.name, scores=scores, bpc=None)


def test_a_matched_recipe_costs_its_own_generators_alone(composed: Callable[..., Any], tmp_path: Path) -> None:
    store, made = Store(tmp_path), {}
    for data in ("short", "micota"):
        options = ["experiment=tiny", "select.match=problems", "compare.recipes=[short,micota]", "bench=[tiny_easy]"]
        config = composed("evaluate", *options, f"data={data}", "student.sft.max_flops=1e9")
        made[data] = {0: recipe(config, store)}
    found = spent_by(store, made)
    assert found["short"] == Spent(training=7, before=10), "the answers of the TA before SFT"
    assert found["micota"] == Spent(training=7, before=10 + 7 + 10), "the teacher's answers, the TA, and its answers"
    plain = composed("evaluate", "experiment=tiny", "data=short", "bench=[tiny_easy]")
    node: AnyNode = next(iter(graph.scores(plain, "student").values()))
    assert spent_by(store, {"short": {0: Recipe(name="short", scores={"easy": node}, bpc=None)}}) == {}


def test_a_student_that_samples_its_answers_does_not_cost_those_of_the_data(
    composed: Callable[..., Any], tmp_path: Path
) -> None:
    store, base = Store(tmp_path), ["experiment=tiny", "bench=[tiny_easy]", "data=micota", "objective=on_policy"]
    ways = {
        "merged": ["objective.teacher=ta_merged"],
        "large": ["objective.teacher=large"],
        "validated": ["objective.teacher=large", "student.sft.validation_fraction=0.1"],
    }
    found = spent_by(
        store, {name: {0: recipe(composed("evaluate", *base, *more), store)} for name, more in ways.items()}
    )
    assert found["merged"] == Spent(training=7, before=10 + 7), (
        "the teacher's answers and the TA; not those of its merge"
    )
    assert found["large"] == Spent(training=7, before=0)
    assert found["validated"] == Spent(training=7, before=10 + 7 + 10), (
        "the loss on the answers of the data is measured"
    )


def test_the_figure_of_ways_comes_first_and_has_both_costs() -> None:
    row = Row(
        name="micota", by_benchmark={}, average=Estimate(0.5, 0.4, 0.6), seed_sd=None, num_tokens=1.0,
        tokens={"correct": [1]}, bits_per_byte=None, data_tokens=None, difference=None, discordance={},
    )  # fmt: skip
    rows = [replace(row, name="instruct", average=Estimate(0.3, 0.2, 0.4)), row]
    summary = Summary(
        name="ways", student="s", seeds=[0], benchmarks=[], recipes=rows, curve={}, teacher=None,
        spent={"micota": Spent(training=1e10, before=9e10)},
    )  # fmt: skip
    charts = figures(summary)
    assert next(iter(charts)) == next(iter(captions(summary))) == "ways"
    [trace] = charts["ways"].data
    assert list(trace.x) == [1e10, 1e11] and list(trace.y) == [50, 50]
    assert list(trace.error_y.array) == pytest.approx([0, 10]) and charts["ways"].layout.xaxis.type == "log"
    assert "ways" not in figures(replace(summary, spent={}))


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (1e10, 1e11, ["1e10", "2e10", "5e10", "1e11"]),
        (1.01e10, 2.7e11, ["1e10", "2e10", "5e10", "1e11", "2e11"]),
        (2e18, 2.02e18, ["2e18"]),
        (1e9, 1e15, ["1e9", "1e11", "1e13", "1e15"]),
    ],
)
def test_an_axis_of_costs_has_few_round_numbers_as_case_labels_have_them(
    low: float, high: float, words: list[str]
) -> None:
    ticks = over_cost(go.Figure(), [high, low], "cost").layout.xaxis.ticktext
    assert set(words) <= set(ticks) and len(ticks) <= 6
