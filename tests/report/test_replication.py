"""``experiment=replication``: composed as it is, and run with toy models in place of the released checkpoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from synthetic_store import score

from micota import graph
from micota.analysis.judging import judge_steps
from micota.cli import experiments
from micota.cli.pipeline import pipeline
from micota.config import BenchConfig, Config, ReleasedConfig
from micota.report.published import tables_of
from micota.report.replication import Judged
from micota.report.table import judge_table

CasesOf = Callable[[str], list[graph.CaseConfig]]
RELEASED = {  # UWNSL on the hub, by student and recipe
    ("qwen0.5b", "strong"): "Qwen2.5-0.5B-Instruct_Long_CoT",
    ("qwen0.5b", "short"): "Qwen2.5-0.5B-Instruct_Short_CoT",
    ("qwen1.5b", "strong"): "Qwen2.5-1.5B-Instruct_Long_CoT",
    ("qwen1.5b", "short"): "Qwen2.5-1.5B-Instruct_Short_CoT",
    ("qwen3b", "strong"): "Qwen2.5-3B-Instruct_Long_CoT",
    ("qwen3b", "short"): "Qwen2.5-3B-Instruct_Short_CoT",
    ("qwen3b", "mix_long"): "Qwen2.5-3B-Instruct_Mix-Long",
    ("qwen3b", "mix_large"): "Qwen2.5-3B-Instruct_Mix-Large",
    ("qwen7b", "strong"): "Qwen2.5-7B-Instruct_Long_CoT",
    ("qwen7b", "short"): "Qwen2.5-7B-Instruct_Short_CoT",
    ("llama3b", "strong"): "Llama-3.2-3B-Instruct_Long_CoT",
    ("llama3b", "short"): "Llama-3.2-3B-Instruct_Short_CoT",
    ("llama3b", "mix_long"): "Llama3.1-3B-Instruct_Mix-Long",
}


def test_every_released_checkpoint_is_evaluated_as_published(cases_of: CasesOf) -> None:
    """No training; the authors' prompt of each benchmark, greedy, 16,000 tokens."""
    cases = cases_of("replication")
    nodes = graph.unique(graph.experiment(cases).targets())
    assert {node.stage for node in nodes} == {"generate", "grade"}
    found = {}
    for case in cases:
        for recipe in case.recipes:
            scores = graph.scores(recipe.config, "student")
            answers = {name: node.inputs["completions"] for name, node in scores.items()}
            paths = {node.inputs["model"].spec.path for node in answers.values()}
            if recipe.name != "instruct":
                [found[case.labels["student"], recipe.name]] = paths
            prompts = {name: node.spec.prompt.template for name, node in answers.items()}
            assert prompts["gsm8k"] == "{problem}"
            assert prompts["math5000"].startswith("Solve the following math problem and present the final answer")
            assert prompts["math500"].startswith("Solve the following math problem. Present the final answer")
            assert {(n.spec.sampling.temperature, n.spec.sampling.max_tokens) for n in answers.values()} == {
                (0.0, 16000)
            }
    assert found == {case: f"UWNSL/{name}" for case, name in RELEASED.items()}


def test_it_is_priced(composed: Callable[..., Any], tmp_path: Path) -> None:
    config = composed(
        "pipeline", "experiment=replication", "student=qwen3b", "hardware=h100x1", "plan=true", f"artifacts={tmp_path}"
    )
    said = StringIO()
    pipeline(config, experiments.cases(config), Console(file=said, width=120))
    [line] = [
        line for line in said.getvalue().splitlines() if line.startswith("evaluate Qwen2.5-3B-Instruct_Mix-Long ")
    ]
    assert "no fit" not in line and " 1 x " in line
    assert "does not fit" not in said.getvalue()


def stand_in(config: Config, artifacts: Path) -> Config:
    """The config with toy models and toy problems in place of those of the hub."""
    toy: dict[str, Any] = {
        "id_column": "id",
        "path": "bundled:test_easy.jsonl",
        "limit": 3,
        "paper_template": "{problem}",
    }
    return replace(
        config,
        artifacts=str(artifacts),
        student=replace(config.student, path="bundled:student", revision=None),
        teacher=replace(config.teacher, path="bundled:ta", revision=None),
        data=replace(
            config.data, released=config.data.released and {"bundled:student": ReleasedConfig(path="bundled:student2")}
        ),
        bench={name: BenchConfig(paper_rule=bench.paper_rule, **toy) for name, bench in config.bench.items()},
        prompt=replace(config.prompt, evaluation_template="{problem}"),
        evaluation=replace(
            config.evaluation, num_workers=1, sampling=replace(config.evaluation.sampling, max_tokens=40)
        ),
        engine=replace(config.engine, name="hf", dtype="float32", device="cpu"),
        tracker=replace(config.tracker, name="none"),
    )


@pytest.fixture(scope="module")
def replicated(cases_of: CasesOf, tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, str, str]:
    """The published numbers of one student, the console, and the page."""
    folder = tmp_path_factory.mktemp("replication")
    [case] = [case for case in cases_of("replication") if case.labels["student"] == "qwen3b"]
    recipes = [replace(recipe, config=stand_in(recipe.config, folder)) for recipe in case.recipes]
    case = replace(case, config=stand_in(case.config, folder), recipes=recipes)
    said = StringIO()
    config: Any = case.config
    config = replace(config, call=replace(config.call))
    for name, value in {"runner": "inprocess", "jobs": 1}.items():
        vars(config).setdefault(name, value)
    pipeline(config, [case], Console(file=said, width=200))
    [page] = (folder / "reports").glob("replication*")
    return pd.read_csv(page / "published.csv"), said.getvalue(), (page / "index.html").read_text()


def test_every_published_number_has_a_verdict(replicated: tuple[pd.DataFrame, str, str]) -> None:
    frame, console, page = replicated
    expected = Counter()
    for table in tables_of("replication"):
        for row in table.rows:
            if row.labels.get("student", "qwen3b") == "qwen3b":
                expected.update(
                    (row.recipe, column, value) for column, value in zip(table.columns, row.values, strict=True)
                )
    measured = Counter(zip(frame["model"], frame["benchmark"], frame["published"], strict=True))
    assert set(measured) == set(expected)
    assert set(measured.values()) == {1}, "an average of two tables is one number"
    assert set(frame["verdict"]) <= {"inside", "outside", "cannot tell"}
    assert set(frame.query("model == 'instruct'")["graded_by"]) == {"paper_rule"}
    assert set(frame.query("model == 'mix_long'")["graded_by"]) == {"typed, as there is no judge"}
    assert "replication, published numbers against the 95 % intervals here" in console
    assert "Published numbers" in page and "cannot tell" in page


def test_the_steps_of_the_judge_are_a_table(finished: Any) -> None:
    rows = [replace(score("p", 0, True), graders={"paper_rule": rule, "judge": True}) for rule in (True, False)]
    judged = [Judged(model="a", benchmark="b", steps=judge_steps(rows, rule_alone=False))]
    table = judge_table(replace(finished[1].summary, judged=judged))
    assert [list(column.cells) for column in table.columns] == [
        ["a"], ["b"], ["100.0"], ["50.0"], ["50.0"], ["0.0"], ["100.0"]
    ]  # fmt: skip
