"""Samples, seeds and problems that were not prompted, on the way from scores to rows."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_store import score

from micota.analysis.statistics import Difference, paired_difference
from micota.records import NOT_PROMPTED
from micota.report.rows import Row, adjusted, mean_by_problem, row, top_two
from micota.report.table import tally, verdict


def test_samples_and_seeds_are_averaged_within_problems() -> None:
    first = {"a": [score("p", 0, True), score("p", 1, False), score("q", 0, True), score("q", 1, True)]}
    second = {"a": [score("q", 0, False), score("q", 1, True), score("p", 0, False), score("p", 1, False)]}
    assert mean_by_problem([first, second]) == {"a": {"p": 0.25, "q": 0.75}}
    assert row("micota", [first, second]).by_benchmark["a"].value == 0.5


def test_a_problem_without_completions_is_wrong_in_every_sample() -> None:
    graded = {"a": [score("p", 0, True), score("p", 1, True), score("q", 0, False, NOT_PROMPTED)]}
    assert mean_by_problem([graded]) == {"a": {"p": 1.0, "q": 0.0}}


def test_missing_samples_are_an_error() -> None:
    with pytest.raises(ValueError, match="problem 'q' has 1 samples and others have 2"):
        mean_by_problem([{"a": [score("p", 0, True), score("p", 1, True), score("q", 0, True)]}])


def test_models_on_different_problems_are_not_compared() -> None:
    first = {"a": [score("p", 0, True), score("q", 0, True)]}
    second = {"a": [score("p", 0, True), score("r", 0, True)]}
    with pytest.raises(ValueError, match=r"first side lacks 1 problems of a .* \(r\)"):
        row("micota", [first], [second])


def compared(name: str, p_value: float | None) -> Row:
    graded = {"a": [score("p", 0, True), score("q", 0, False)]}
    made = row(name, [graded])
    difference = None if p_value is None else Difference(0.05, 0.0, 0.1, p_value, 0.025, (np.full(20, 0.05),))
    return Row(**vars(made) | {"difference": difference})


def test_single_answers_are_compared_by_benchmark() -> None:
    first = {"a": [score(f"p{i}", 0, i < 9) for i in range(12)]}
    second = {"a": [score(f"p{i}", 0, i > 9) for i in range(12)]}
    made = row("micota", [first], [second])
    assert (made.discordance["a"].num_better, made.discordance["a"].num_worse) == (9, 2)
    assert tally(made.discordance["a"]) == "+9 -2, not distinguishable (p = 0.065)"
    assert row("micota", [first, first], [second, second]).discordance == {}  # two seeds: means, not right or wrong


def test_differences_are_corrected_for_the_number_of_recipes() -> None:
    recipes = adjusted([compared("instruct", None), compared("short", 0.03), compared("micota", 0.02)])
    differences = [recipe.difference for recipe in recipes if recipe.difference is not None]
    assert [difference.p_value for difference in differences] == [0.04, 0.04]
    assert recipes[0].difference is None
    alone = adjusted([compared("short", 0.03)])[0].difference
    assert alone is not None and alone.p_value == 0.03


def test_verdicts_name_the_detectable_difference() -> None:
    assert verdict(Difference(0.05, 0.0, 0.1, 0.04, 0.025)) == "+5.0 [+0.0, +10.0], p = 0.040"
    text = verdict(Difference(0.02, -0.03, 0.07, 0.4, 0.025))
    assert text == "+2.0 [-3.0, +7.0], not distinguishable (p = 0.40; detectable: 7.0)"


def test_the_top_two_are_corrected_for_all_pairs() -> None:
    def recipe(name: str, right: int) -> Row:
        return row(name, [{"a": [score(f"p{i}", 0, i < right) for i in range(40)]}])

    recipes = [recipe("strong", 10), recipe("short", 26), recipe("micota", 33)]
    top = top_two(recipes)
    assert top is not None and top[:2] == ("micota", "short")
    alone = paired_difference(recipes[2].means, recipes[1].means)
    assert top[2].p_value == pytest.approx(3 * alone.p_value) and top[2].low < alone.low
    assert (top[2].low > 0) == top[2].is_distinguishable
    assert top_two(recipes[:1]) is None
