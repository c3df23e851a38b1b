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
