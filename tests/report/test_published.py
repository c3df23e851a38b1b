"""The published numbers: as the papers print them, under the names of the experiments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import thorough_after
from fork_server import ROOT
from omegaconf import OmegaConf

from micota.report.published import NOT_BENCHMARKS, PublishedTable, tables, tables_of

PAPERS = ROOT.parent / "shared" / "papers" / "tables.yaml"


def test_figures_of_an_recipe() -> None:
    [table] = tables_of("micota")
    assert table.source == "MiCoTA table 2"
    values = table.of({"student": "qwen3b"}, "micota")
    assert values is not None and (values["amc23"], values["average"]) == (40.0, 43.29)
    assert table.of({"student": "qwen3b"}, "short") is None
    teacher = table.of({"student": "qwen3b"}, "teacher")
    assert teacher is not None and teacher["average"] == 72.83
    assert tables_of("tiny") == []
    assert [table.source for table in tables_of("replication")] == [
        "MiCoTA table 2", "Mix Distillation table 1", "Mix Distillation table 3"
    ]  # fmt: skip
    assert {row.recipe for row in tables_of("replication")[0].rows} == {"instruct", "teacher"}


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.experiment)
def test_tables_are_consistent(table: PublishedTable) -> None:
    for row in table.rows:
        assert len(row.values) == len(table.columns)
        if len(table.columns) > 2 and (row.labels.get("student"), row.recipe) != ("llama3b", "small"):  # see its note
            assert sum(row.values[:-1]) / 5 == pytest.approx(row.values[-1], abs=0.1), row
    assert len({(tuple(row.labels.items()), row.recipe) for row in table.rows}) == len(table.rows)


@pytest.mark.parametrize("table", thorough_after(2, [*tables()]), ids=lambda table: table.experiment)
def test_experiments_have_the_cases_and_recipes_that_are_published(
    composed: Callable[..., Any], table: PublishedTable
) -> None:
    [path] = [
        path for path in (ROOT / "conf" / "experiment").rglob(f"{table.experiment}.yaml") if "tiny" not in path.parts
    ]
    config = composed("pipeline", f"experiment={path.relative_to(ROOT / 'conf' / 'experiment').with_suffix('')}")
    assert config.name == table.experiment
    recipes = {point.label for point in config.compare.points("data")} | {"teacher", "ta_merged"}
    labels = {axis: {point.label for point in config.compare.points(axis)} for axis in config.compare.axes}
    for row in table.rows:
        assert row.recipe in recipes
        assert all(label in labels[axis] for axis, label in row.labels.items()), row
    benchmarks = set(table.columns) - set(NOT_BENCHMARKS) | set(table.average_of)
    assert benchmarks <= set(config.bench)


@pytest.mark.skipif(not PAPERS.exists(), reason="the papers' tables are not here")
def test_every_printed_row_is_there() -> None:
    def rows(node: Any) -> list[list[float]]:
        if isinstance(node, dict):
            return [row for child in node.values() for row in rows(child)]
        is_row = isinstance(node, list) and all(isinstance(value, int | float) for value in node)
        return [node] if is_row else []

    printed: Any = OmegaConf.to_container(OmegaConf.load(Path(PAPERS)))
    published = [row.values for table in tables() for row in table.rows]
    for name in ("table2_main", "table3_ablation_half_size_cot", "table1_learnability_gap"):
        assert all(row in published for row in rows(printed["micota"][name])), name
    assert all(row in published for row in rows(printed["mix_distillation"]["table3_mix"]))
    for name, recipes in (("long_vs_short", "table1_long_vs_short"), ("large_vs_small", "table2_large_vs_small")):
        [table] = tables_of(name)
        pairs = [[a.values[0], b.values[0]] for a, b in zip(table.rows[::2], table.rows[1::2], strict=True)]
        assert pairs == [row[:2] for row in rows(printed["mix_distillation"][recipes])]
