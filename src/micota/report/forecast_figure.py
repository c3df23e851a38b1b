"""The figure of forecasts beside outcomes."""

from __future__ import annotations

import math
from dataclasses import replace

import plotly.graph_objects as go

from micota.report.collect import Summary
from micota.report.style import NEUTRAL, REFERENCE, by_recipe, recipe_colours


def forecast_figure(summary: Summary) -> go.Figure:
    """Plot for each recipe the expected gains with their intervals (open), and what was gained (filled), in points."""
    figure = go.Figure()
    known = {checked.recipe for checked in summary.forecasts}
    summary = replace(summary, recipes=[recipe for recipe in summary.recipes if recipe.name in known])
    names = [recipe.name for recipe in summary.recipes]
    colours = recipe_colours(names)
    for label, symbol in (("expected", "circle-open"), ("gained", "circle")):
        marker = {"symbol": symbol, "color": NEUTRAL, "size": 10}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=label)
    for one in (checked for checked in summary.forecasts if checked.recipe in names):
        row, made = names.index(one.recipe), one.forecast
        ends = [100 * (made.high - made.gain), 100 * (made.gain - made.low)]
        bars = {"type": "data", "array": ends[:1], "arrayminus": ends[1:], "thickness": 1.5, "width": 4}
        expected = {
            # From fewer than 19 trainings an interval has no end.
            "error_x": bars if all(map(math.isfinite, ends)) else None,
            "hovertemplate": f"{one.recipe}, seed {one.seed}: {100 * made.gain:+.1f} "
            f"[{100 * made.low:+.1f}, {100 * made.high:+.1f}] expected<extra></extra>",
        }
        gained = {"hovertemplate": f"{one.recipe}, seed {one.seed}: {100 * one.gain:+.1f} gained<extra></extra>"}
        for value, height, symbol, more in (
            (made.gain, row - 0.14, "circle-open", expected),
            (one.gain, row + 0.14, "circle", gained),
        ):
            marker = {"symbol": symbol, "color": colours[one.recipe], "size": 10}
            point = {"x": [100 * value], "y": [height], "mode": "markers", "marker": marker, "showlegend": False}
            figure.add_scatter(**point, **more)
    figure.add_vline(x=0, line=REFERENCE)
    figure.update_xaxes(title="gain on the student before SFT (points)")
    return by_recipe(figure, summary)
