"""The figure of accuracy against the arithmetic that each recipe took."""

from __future__ import annotations

from dataclasses import replace

import plotly.graph_objects as go

from micota.report.collect import Summary
from micota.report.style import REFERENCE, baseline_of, error_bars, number, over_cost, recipe_colours, styled
from micota.report.table import interval


def ways_figure(summary: Summary) -> go.Figure:
    """Plot the average accuracy of each recipe, with its 95 % interval, against the arithmetic that it took."""
    figure = go.Figure()
    colours = recipe_colours([recipe.name for recipe in summary.recipes])
    for recipe in summary.recipes:
        spent = summary.spent.get(recipe.name)
        if spent is None:
            continue
        value, colour = 100 * recipe.average.value, colours[recipe.name]
        nothing = replace(
            recipe.average, low=recipe.average.value, high=recipe.average.value
        )  # a bar at the total alone
        words = f"{recipe.name}: {interval(recipe.average)} %<br>{spent.training:.2g} FLOPs of training"
        figure.add_scatter(
            x=[spent.training, spent.total],
            y=[value, value],
            error_y=error_bars([nothing, recipe.average], 2),
            mode="lines+markers",
            line={"color": colour, "width": 1.5},
            marker={"color": colour, "size": 10, "symbol": ["circle-open", "circle"]},
            name=recipe.name,
            customdata=[number(recipe.name, "average", recipe.average)] * 2,
            hovertemplate=[f"{words}<extra></extra>", f"{words}, {spent.total:.2g} with all before<extra></extra>"],
        )
    baseline = baseline_of(summary)
    if baseline is not None:
        figure.add_hline(y=baseline, line=REFERENCE)
        figure.update_yaxes(autorangeoptions={"include": [baseline - 1, baseline + 1]})  # lines do not extend axes
    costs = [cost for spent in summary.spent.values() for cost in (spent.training, spent.total)]
    over_cost(figure, costs, "floating-point operations")
    figure.update_yaxes(title="accuracy (%)")
    return styled(figure, height=460, legend={"orientation": "h", "y": -0.25})
