"""How good forecasts are for students that they have not seen, from a table of outcomes.

    python benchmarks/forecast_skill.py [bundled:toy_students.csv] [--figure FILE.html]

Students of one size come from one pre-training run, so leaving out one student leaves its siblings in. Therefore the
forecast is judged twice: each student left out, and all students of a size left out together. Beside it is what needs
no measure: the mean gain of the same recipe over the other sizes; and what measures say of a recipe that no other
student has had. Printed are the rank correlation of expected and true
gains over recipes, the share of 95 % intervals that hold the gain, the mean error, and in points what the chosen recipe
gains less than the best one (regret), beside always taking the same recipe. The figure has the true gain of every
training against the expected one, of students whose size was left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

import plotly.graph_objects as go

from micota.analysis.forecast import Expected, Outcome, Skill, fit, judge, left_out, skill, students_of
from micota.console import WideTable, new_table, open_console, print_table
from micota.report.outcomes import read_table
from micota.report.style import SYMBOLS, recipe_colours

SIZE = "num_parameters"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?", default="bundled:toy_students.csv")
    parser.add_argument("--figure", type=Path, help="an HTML file")
    options = parser.parse_args()
    outcomes = read_table(options.table)
    by_size = [replace(one, student=f"{one.known[SIZE]:.0f}") for one in outcomes]
    judged = {
        "forecast, student left out": skill(outcomes),
        "size left out": skill(by_size),
        "size and recipe left out": judge(by_size, of_new_recipes(by_size)),
        "mean of others": judge(by_size, means_of_others(by_size)),
    }
    print(f"{len(outcomes)} trainings of {len(students_of(outcomes))} students")
    console = open_console()
    print_table(console, skill_table(judged))
    print_table(console, recipe_table(by_size, left_out(by_size)))
    if options.figure:
        figure = outcome_figure(by_size, left_out(by_size))
        figure.write_html(options.figure, config={"displayModeBar": False})
        print(f"figure: {options.figure}")


def means_of_others(outcomes: Sequence[Outcome]) -> dict[str, list[Expected]]:
    """The mean gain of the same recipe over other students: what a forecast without measures would say."""
    return {
        student: [
            Expected(gain=_mean([one.gain for one in others if one.recipe == outcome.recipe]), low=-inf, high=inf)
            for outcome in own
        ]
        for student, own in students_of(outcomes).items()
        for others in [[one for one in outcomes if one.student != student]]
    }


def of_new_recipes(outcomes: Sequence[Outcome]) -> dict[str, list[Expected]]:
    """What is expected of each outcome without its student and without its recipe."""
    recipes = dict.fromkeys(one.recipe for one in outcomes)
    expected = {}
    for student, own in students_of(outcomes).items():
        others = [one for one in outcomes if one.student != student]
        fits = {name: fit([one for one in others if one.recipe != name]) for name in recipes}
        expected[student] = [fits[one.recipe].expect(one.recipe, one.known) for one in own]
    return expected


def skill_table(judged: dict[str, Skill]) -> WideTable:
    """One column for each way to leave out students."""
    table = new_table("", "regret: what the choice gains less than the best recipe, mean over students")
    table.add_column("", no_wrap=True)
    for name in judged:
        table.add_column(name, justify="right", no_wrap=True)
    rows = {
        "rank correlation": [f"{one.spearman:+.2f} [{one.low:+.2f}, {one.high:+.2f}]" for one in judged.values()],
        "intervals that hold it, %": [
            "" if name == "mean of others" else f"{100 * one.coverage:.0f}" for name, one in judged.items()
        ],
        "mean error, points": [f"{100 * one.mean_error:.1f}" for one in judged.values()],
    }
    strategies = dict.fromkeys(name for one in judged.values() for name in one.regret)
    rows |= {f"regret, {name}": [f"{100 * one.regret[name]:.1f}" for one in judged.values()] for name in strategies}
    for label, cells in rows.items():
        table.add_row(label, *cells)
    return table


def recipe_table(outcomes: Sequence[Outcome], expected: dict[str, list[Expected]]) -> WideTable:
    """Where the forecast fails: its errors by recipe."""
    table = new_table("gains by recipe, in points, each size left out", "")
    table.add_column("recipe", no_wrap=True)
    for name in ("gain", "expected", "error", "in interval, %"):
        table.add_column(name, justify="right", no_wrap=True)
    pairs = _pairs(outcomes, expected)
    for recipe in dict.fromkeys(outcome.recipe for outcome in outcomes):
        own = [(outcome.gain, one) for outcome, one in pairs if outcome.recipe == recipe]
        errors = [abs(gain - one.gain) for gain, one in own]
        inside = [one.low <= gain <= one.high for gain, one in own]
        table.add_row(
            recipe,
            f"{100 * _mean([gain for gain, _ in own]):+.1f}",
            f"{100 * _mean([one.gain for _, one in own]):+.1f}",
            f"{100 * _mean(errors):.1f}",
            f"{100 * _mean(inside):.0f}",
        )
    return table


def _pairs(outcomes: Sequence[Outcome], expected: dict[str, list[Expected]]) -> list[tuple[Outcome, Expected]]:
    return [pair for student, own in students_of(outcomes).items() for pair in zip(own, expected[student], strict=True)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def outcome_figure(outcomes: Sequence[Outcome], expected: dict[str, list[Expected]]) -> go.Figure:
    """The true gain of every training against the expected one, in points, by recipe."""
    recipes = list(dict.fromkeys(outcome.recipe for outcome in outcomes))
    colours = recipe_colours(recipes)
    figure = go.Figure()
    pairs = _pairs(outcomes, expected)
    ends = [100 * value for outcome, one in pairs for value in (outcome.gain, one.gain)]
    span = [min(ends) - 3, max(ends) + 3]
    figure.add_scatter(x=span, y=span, mode="lines", line={"color": "#888", "dash": "dash"}, name="as expected")
    for number, recipe in enumerate(recipes):
        own = [(outcome, one) for outcome, one in pairs if outcome.recipe == recipe]
        figure.add_scatter(
            x=[100 * one.gain for _, one in own],
            y=[100 * outcome.gain for outcome, _ in own],
            mode="markers",
            name=recipe,
            marker={"color": colours[recipe], "symbol": SYMBOLS[number % len(SYMBOLS)], "size": 8, "opacity": 0.8},
            text=[f"{outcome.student} parameters, seed {outcome.seed}" for outcome, _ in own],
        )
    figure.update_layout(
        template="plotly_white",
        width=880,
        height=600,
        xaxis={"title": "expected gain, points", "range": span},
        yaxis={"title": "gain after training, points", "range": span},
        margin={"t": 20, "r": 20},
    )
    return figure


if __name__ == "__main__":
    main()
