"""An axis over a key, as the budget of arithmetic: its cases, their labels and what a report knows of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from micota import graph
from micota.artifacts.store import Store
from micota.cli.experiments import cases
from micota.config.method import CompareConfig
from micota.graph import Recipe
from micota.report.rounds import rounds_by
from micota.report.spent import max_flops_of, spent_by

AXIS = "compare.axes.student.sft.max_flops=[1e9,2e18]"
STEERED = "{steered: ['data=annealed', 'curriculum=steered_annealing']}"
SETTINGS = ["experiment=tiny", "bench=[tiny_easy]", f"compare.recipes=[instruct,short,{STEERED}]"]


def test_a_budget_is_an_axis_and_its_cases_share_all_but_the_trainings(
    composed: Callable[..., Any], tmp_path: Path
) -> None:
    every = cases(composed("pipeline", *SETTINGS, AXIS, "compare.measures=[scores]"))
    assert [case.labels for case in every] == [{"student.sft.max_flops": "1e9"}, {"student.sft.max_flops": "2e18"}]
    assert [case.config.student.sft.max_flops for case in every] == [1e9, 2e18]
    made = graph.experiment(every)
    nodes = graph.unique(made.targets())
    assert sum(node.stage == "train" for node in nodes) == 1 + 2 * (1 + 3), (
        "the TA, and in each case short and 3 rounds"
    )
    assert {node.choose.get("student.sft.max_flops") for node in nodes if node.stage == "train"} == {
        None,
        "1e9",
        "2e18",
    }
    store, cost = Store(tmp_path), {"train": 7.0, "generate": 10.0, "likelihood": 1.0}
    recipes: list[dict[str, dict[int, Recipe]]] = [
        {r.name: {0: r} for r in case.comparison.recipes} for case in made.cases
    ]
    for node in graph.unique(target for case in made.cases[:1] for target in case.comparison.targets()):
        with store.build(node, 0) as build:
            assert build is not None
            build.metrics |= {f"flops_{node.stage}": cost[node.stage]} if node.stage in cost else {}
            parts = {"low": 1, "middle": 2, "high": 1} if node.name.startswith("annealed.round") else {}
            build.counts |= {f"from_{part}": count for part, count in parts.items()}
    assert [max_flops_of(case) for case in recipes] == [pytest.approx(1e9), pytest.approx(2e18)]
    spent = spent_by(store, recipes[0])
    assert spent["short"].training == 7 and spent["steered"].training == 3 * 7
    teacher_ta_and_merges = 10 + 7 + 3 * 10
    assert spent["steered"].before == teacher_ta_and_merges + 3 * 3, "three parts are measured before each round"
    shares = {"micota_0.2": 0.25, "micota_0.45": 0.5, "micota_0.7": 0.25}
    assert rounds_by(store, recipes[0]) == {"steered": [shares] * 3}


def test_numbers_on_an_axis_have_short_labels() -> None:
    compare = CompareConfig(
        axes={"a": [2e18, 1e10, 0.25, 3, 0.1234567]}, recipes=["short"], measures=["bpc"], merge_weights=[]
    )
    assert [(point.label, point.overrides) for point in compare.points("a")] == [
        ("2e18", ["a=2e18"]), ("1e10", ["a=1e10"]), ("0.25", ["a=0.25"]),
        ("3", ["a=3"]), ("0.1234567", ["a=0.1234567"]),
    ]  # fmt: skip
