"""The comparison in the terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from micota.artifacts.store import Store
from micota.console import print_table
from micota.report.collect import CaseReport
from micota.report.table import comparison_table

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
