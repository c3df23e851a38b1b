"""Finished trainings from manifests and from a table, and forecasts beside what happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

from micota.analysis.forecast import FEATURES, Outcome
from micota.artifacts.jsonl import write_jsonl
from micota.artifacts.store import Store
from micota.config import Call
from micota.errors import ConfigError
from micota.graph import Comparison, source
from micota.graph.evaluations import data_of_forecast
from micota.graph.node import AnyNode, Node
from micota.graph.specs import ForecastSpec
from micota.records import FORECAST, ForecastRow
from micota.report.collect import CaseReport
from micota.report.forecast_figure import forecast_figure
from micota.report.forecasts import checked, forecast_words
from micota.report.outcomes import all_outcomes, as_table, finished_trainings, read_table, sum_of
from micota.report.page import render_page

Finished = tuple[Store, CaseReport]
ACCURACY = {"instruct": 0.5, "strong": 0.3, "micota": 0.7}


def build(store: Store, node: AnyNode, **metrics: float) -> None:
    with store.build(node, 0) as made:
        if made is not None:
            made.metrics |= metrics


def fill(store: Store, comparison: Comparison) -> None:
    """Scores, models and BPC of three recipes, without their rows."""
    for recipe in comparison.recipes:
        if recipe.name not in ACCURACY:
            continue
        for node in recipe.scores.values():
            answers = node.inputs["completions"]
            build(store, answers)
            build(store, node, accuracy=ACCURACY[recipe.name])
            if not answers.inputs["model"].is_source:
                build(store, answers.inputs["model"])
        if recipe.bpc is not None:
            build(store, recipe.bpc, bits_per_byte=0.25, num_tokens=80.0, tokens_per_s=3.0)


def test_trainings_are_found_with_what_was_known_before(finished: Finished, tmp_path: Path) -> None:
    comparison = finished[1].by_seed[0]
    store = Store(tmp_path)
    assert finished_trainings(store) == []
    fill(store, comparison)
    found = {one.recipe: one for one in finished_trainings(store)}
    assert {name: round(one.gain, 6) for name, one in found.items()} == {"strong": -0.2, "micota": 0.2}
    assert found["micota"].known == {"bits_per_byte": 0.25, "num_tokens": 80.0, "accuracy_before": 0.5}
    [student] = {one.student for one in found.values()}
    assert student.startswith("tiny_student-")
    assert all_outcomes(store, None, without=student) == [], "its own trainings tell its own gains"


def test_a_damaged_artifact_is_left_out_and_named_once(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    fill(store, finished[1].by_seed[0])
    assert len(finished_trainings(store)) == 2 and not capsys.readouterr().err
    damaged = next(tmp_path.glob("models/*micota*"))
    (damaged / "manifest.json").write_text("{")
    for _ in range(2):
        assert [one.recipe for one in finished_trainings(store)] == ["strong"]
    printed = capsys.readouterr().err
    assert printed.startswith(f"left out: {damaged}/manifest.json is not valid JSON") and printed.count("\n") == 1
    assert f"Make it again:  rm -r {damaged}" in printed
    (next(tmp_path.glob("models/*strong*")) / "manifest.json").unlink()
    assert finished_trainings(store) == [] and not capsys.readouterr().err, "what is not there is not damaged"


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [
        Outcome(student="a", recipe="x", seed=1, known={"bits_per_byte": 0.1}, gain=0.3),
        Outcome(student="b,c", recipe="x", seed=0, known={"num_tokens": 7.0}, gain=-0.1),
    ]
    path = tmp_path / "rows.csv"
    path.write_text(as_table(rows), encoding="utf-8")
    assert read_table(str(path)) == rows
    store = Store(tmp_path / "none")
    assert all_outcomes(store, str(path), without="a") == rows[1:]
    assert sum_of(rows) != sum_of(rows[:1])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("student,recipe,seed\na,x,0\n", "there is no column gain; accepted: student, recipe, seed, gain"),
        ("student,recipe,seed,gain\na,x,0,nan\n", r"rows.csv:2: gain='nan'; accepted: a finite number"),
        ("student,recipe,seed,gain\na,x,one,0.1\n", r"rows.csv:2: seed='one'; accepted: a whole number of at least 0"),
        ("student,recipe,seed,gain,num_tokens\na,x,0,0.1,many\n", r"rows.csv:2: num_tokens='many'"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=line):
        read_table(str(path))
    with pytest.raises(ConfigError, match=r"outcomes=.*nowhere.csv: .*No such file"):
        read_table(str(tmp_path / "nowhere.csv"))


def test_the_page_has_forecasts_beside_outcomes(finished: Finished, tmp_path: Path) -> None:
    made, case = finished
    store, comparison = Store(tmp_path), case.by_seed[0]
    recipes = {recipe.name: recipe for recipe in comparison.recipes}
    names = ["strong", "short", "micota"]
    spec = ForecastSpec(recipes=names, outcomes="0")
    inputs = {data_of_forecast(name): recipes[name].bpc for name in names}
    node: Node[ForecastSpec] = Node(name="tiny_student", spec=spec, inputs=inputs)  # type: ignore[arg-type]
    trials = {trial.recipe: trial for trial in case.summary.trials if trial.seed == 0}
    with store.build(node, 0) as folder:
        assert folder is not None
        gains = {name: trials[name].gain for name in names}
        rows = [
            ForecastRow(
                recipe=name, gain=gain + 0.01, low=gain - 0.1, high=gain + (0.1 if name != "short" else -0.01), known={}
            )
            for name, gain in gains.items()
        ]
        write_jsonl(folder.path / FORECAST, rows)
    assert checked(store, case.by_seed, case.summary.trials) == [], "no model was trained here"
    for name in names:
        for graded in recipes[name].scores.values():
            build(store, graded.inputs["completions"].inputs["model"])
    found = checked(store, {0: comparison}, case.summary.trials)
    assert [(one.recipe, one.is_inside, one.was_before) for one in found] == [
        ("strong", True, True), ("short", False, True), ("micota", True, True),
    ]  # fmt: skip
    words = forecast_words(found)
    assert words.startswith(
        "2 of 3 intervals hold the gain. Rank correlation of expected and true gains over recipes: +1.00."
    )
    assert "micota, which was forecast as the best, loses 0.0; always micota loses 0.0; always short loses " in words
    shown = replace(case, summary=replace(case.summary, forecasts=found))
    figure = forecast_figure(shown.summary)
    assert "instruct" not in figure.layout.yaxis.ticktext, "a recipe without a forecast has no row"
    bars = {trace.x[0]: trace.error_x.array for trace in figure.data if trace.error_x.array}
    assert bars == {100 * one.forecast.gain: (100 * (one.forecast.high - one.forecast.gain),) for one in found}
    endless = [replace(one, forecast=replace(one.forecast, low=-inf)) for one in found]
    figure = forecast_figure(replace(shown.summary, forecasts=endless))
    assert not any(trace.error_x.array for trace in figure.data)
    assert "before training" in render_page("tiny", [shown], made, seed=0, call=Call())


def test_the_bundled_table_knows_its_students(composed: Callable[..., Any]) -> None:
    rows = read_table("bundled:toy_students.csv")
    assert len(rows) == 216 and len({one.student for one in rows}) == 18
    student = source(composed("forecast", "experiment=tiny", "student=tiny_66k").student)
    own = f"{student.name}-{student.key}"
    assert sum(one.student == own for one in rows) == 12, "six recipes, two seeds"
    assert all(set(FEATURES) == one.known.keys() for one in rows)
