"""The comparison in the terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from micota.analysis.intervals import Estimate
from micota.artifacts.store import Store
from micota.console import print_table
from micota.report.collect import CaseReport
from micota.report.figures import merge_figure
from micota.report.frames import results_table
from micota.report.page import list_models
from micota.report.table import comparison_table, part_table, sampled_table

Finished = tuple[Store, CaseReport]


def shown(case: CaseReport, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, soft_wrap=True)
    print_table(console, comparison_table(case.summary))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120, 10_000])
def test_it_fits_and_has_every_number(finished: Finished, width: int) -> None:
    text = shown(finished[1], width)
    print(text)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    summary = finished[1].summary
    for recipe in summary.recipes:
        assert recipe.name in text and f"{recipe.num_tokens:.0f}" in text
        if recipe.difference is not None:
            assert f"{100 * recipe.difference.value:+.1f} [" in text and recipe.difference.label in text
    assert "against instruct, paired" in text and "p by Holm, intervals by Bonferroni, over all recipes" in " ".join(
        text.split()
    )


def test_a_merge_without_one_weight_has_a_row_a_line_and_answers(finished: Finished) -> None:
    """A merge by mergekit, by calibration or by layer: the curve over weights showed its ends alone."""
    case = finished[1]
    merged = case.summary.curve[0.4]
    ends = {weight: case.summary.curve[weight] for weight in (0.0, 1.0)}
    summary = replace(case.summary, curve=ends, merged=merged)
    by_seed = {
        seed: replace(made, curve={weight: made.curve[weight] for weight in ends}, merged=made.curve[0.4])
        for seed, made in case.by_seed.items()
    }
    alone = CaseReport(summary=summary, by_seed=by_seed)
    assert [label for label, _ in summary.ta_rows] == ["TA before SFT", "TA after SFT", "TA merged"]
    assert "TA merged" in shown(alone, 10_000) and "TA merged" in results_table(summary).index
    [model] = [model for model in list_models(alone) if model.label == "TA merged"]
    assert model.scores == {seed: made.merged for seed, made in by_seed.items()}
    heights = {100 * merged.average.value, merged.num_tokens}
    assert {shape.y0 for shape in merge_figure(summary).layout.shapes} == heights


def test_notes_explain_the_shown_columns_alone(finished: Finished) -> None:
    case = finished[1]
    untested = [recipe for recipe in case.summary.recipes if recipe.difference is None]
    alone = shown(replace(case, summary=replace(case.summary, recipes=untested)), 120)
    assert "Holm" not in alone and "detectable" not in alone and "against" not in alone
    clear = [recipe for recipe in case.summary.recipes if not recipe.difference or recipe.difference.is_distinguishable]
    text = shown(replace(case, summary=replace(case.summary, recipes=clear)), 120)
    assert "Holm" in text and "detectable" not in text


def test_metrics_of_several_samples_and_of_parts_have_tables(finished: Finished) -> None:
    summary = finished[1].summary
    first, *others = summary.recipes
    bare = [replace(row, pass_at={}, by_level={}) for row in others]
    one = replace(
        first,
        pass_at={"easy": {2: Estimate(0.5, 0.25, 0.75)}},
        majority_at={},
        by_level={"easy": {"3": Estimate(1, 0.5, 1)}},
    )
    console = Console(file=io.StringIO(), width=120)
    for table in (
        sampled_table(replace(summary, recipes=[one, *bare])),
        part_table(replace(summary, recipes=[one]), "level"),
    ):
        assert table is not None
        print_table(console, table)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "50.0 [25.0, 75.0]" in text and "100.0 [50.0, 100.0]" in text and first.name in text
    plain = replace(summary, recipes=bare, curve={}, teacher=None)
    assert sampled_table(plain) is None and part_table(plain, "level") is None
