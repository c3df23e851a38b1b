"""The page of a merge sweep: accuracy and length over weight, and over density if there are several densities."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from micota.records import MergePoint
from micota.report.html import render
from micota.report.style import FONT_SIZE, REFERENCE, styled

MEASURES = ("accuracy (%)", "tokens per answer")
LINES = ("#0072b2", "#d55e00", "#009e73", "#c8699b", "#b98500", "#7b68ee", "#2e8b9a", "#8a8a2b")


def most_accurate(points: Sequence[MergePoint]) -> tuple[float, float, float, float]:
    """Return density and weight of the most accurate merge (mean over seeds), its accuracy from 0 to 1 and its tokens
    per answer. Among equals it is the merge with the fewest tokens."""
    by_setting: dict[tuple[float, float], list[MergePoint]] = {}
    for point in points:
        if point.density is not None and point.weight is not None:
            by_setting.setdefault((point.density, point.weight), []).append(point)
    rows = [
        (
            sum(point.num_correct for point in seeds) / sum(point.num_problems for point in seeds),
            -sum(point.num_tokens for point in seeds) / len(seeds),
            setting,
        )
        for setting, seeds in by_setting.items()
    ]
    accuracy, tokens, (density, weight) = max(rows)
    return density, weight, accuracy, -tokens


def sweep_page(title: str, points: Sequence[MergePoint], command: str | None = None) -> str:
    """Return a self-contained page of HTML; ``command`` is the command that writes the most accurate merge."""
    density, weight, accuracy, tokens = most_accurate(points)
    best = (
        f"The most accurate merge, and the shortest if there are several: density {density:g}, weight {weight:g} "
        f"({100 * accuracy:.1f} %, {tokens:.0f} tokens)."
    )
    options = {"displaylogo": False, "responsive": True, "modeBarButtons": [["toImage"]]}
    plots = [
        figure.to_html(full_html=False, include_plotlyjs=number == 0, config=options)
        for number, figure in enumerate(sweep_figures(points))
    ]
    return render("sweep.html", title=title, plots=plots, best=best, command=command)


def sweep_figures(points: Sequence[MergePoint]) -> list[go.Figure]:
    """Return a figure over weight with a line for each density. With several densities, add a figure over density with
    a line for each weight, and a map over both."""
    merged = [point for point in points if point.form == "merged"]
    figures = [_figure(points, merged, "weight", "density")]
    if len({point.density for point in merged}) > 1:
        figures += [_figure(points, merged, "density", "weight"), _surface(merged)]
    return figures


def _figure(points: Sequence[MergePoint], merged: Sequence[MergePoint], axis: str, line: str) -> go.Figure:
    """Plot means over seeds as lines, bars from the lowest seed to the highest, the TA before and after SFT dashed."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    values = sorted({getattr(point, line) for point in merged})
    for value, colour in zip(values, cycle(LINES), strict=False):
        of_line = [point for point in merged if getattr(point, line) == value]
        for row, measure in enumerate(MEASURES, start=1):
            style = {"name": f"{line} {value:g}", "legendgroup": f"{value:g}", "line": {"color": colour}}
            curve = _curve(of_line, axis, measure)
            figure.add_scatter(**style, **curve, showlegend=row == 1, mode="lines+markers", row=row, col=1)
    for point in points:
        if point.form != "merged":
            for row, measure in enumerate(MEASURES, start=1):
                # At opposite ends and sides, so that they never cover each other.
                position = "top left" if point.form == "before" else "bottom right"
                text = {"annotation_text": f"{point.form} SFT", "annotation_position": position}
                figure.add_hline(y=_value(point, measure), line=REFERENCE, **text, row=row, col=1)
    for row, measure in enumerate(MEASURES, start=1):
        figure.update_yaxes(title=measure, row=row)
    figure.update_xaxes(title=f"merge {axis}", row=2)
    figure.update_yaxes(rangemode="tozero", row=2)
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.04, "x": 0, "font": {"size": FONT_SIZE}}
    return styled(figure, height=620, legend=legend)


def _surface(merged: Sequence[MergePoint]) -> go.Figure:
    """Plot density by weight as two maps, with the mean over seeds in each cell; cells without a merge are empty."""
    weights, densities = (sorted({getattr(point, axis) for point in merged}) for axis in ("weight", "density"))
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.1, subplot_titles=MEASURES)
    figure.update_annotations(x=0, xanchor="left", font={"size": FONT_SIZE + 1})
    for row, measure in enumerate(MEASURES, start=1):
        by_setting: dict[tuple[Any, Any], list[float]] = {}
        for point in merged:
            by_setting.setdefault((point.density, point.weight), []).append(_value(point, measure))
        means = {setting: sum(values) / len(values) for setting, values in by_setting.items()}
        cells = [[means.get((density, weight)) for weight in weights] for density in densities]
        figure.add_heatmap(
            x=[f"{weight:g}" for weight in weights],
            y=[f"{density:g}" for density in densities],
            z=cells,
            colorscale="Viridis",
            showscale=False,  # the cells contain their numbers
            xgap=2,
            ygap=2,
            texttemplate="%{z:.1f}" if row == 1 else "%{z:.0f}",
            hovertemplate=f"density %{{y}}, weight %{{x}}: %{{z:.1f}} {measure}<extra></extra>",
            row=row,
            col=1,
        )
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False, title="merge density")
    figure.update_xaxes(title="merge weight", row=2)
    return styled(figure, height=620)


def _curve(points: Sequence[MergePoint], axis: str, measure: str) -> dict[str, Any]:
    """Return the mean over seeds at each value of the axis, with the spread of the seeds as error bars."""
    across = sorted({getattr(point, axis) for point in points})
    seeds = [[_value(point, measure) for point in points if getattr(point, axis) == x] for x in across]
    means = [sum(values) / len(values) for values in seeds]
    above = [max(values) - mean for values, mean in zip(seeds, means, strict=True)]
    below = [mean - min(values) for values, mean in zip(seeds, means, strict=True)]
    bars = {"array": above, "arrayminus": below, "thickness": 1.2, "width": 3}
    # The number that a point shows, for the report page, which lists all merges as one model.
    known = {"model": "merges", "measure": "merge_sweep"}
    about = [known | {"shown": f"{mean:.1f}", "about": f"{measure} at {axis} {x:g}"}
             for x, mean in zip(across, means, strict=True)]  # fmt: skip
    return {"x": across, "y": means, "error_y": bars, "customdata": about}


def _value(point: MergePoint, measure: str) -> float:
    return 100 * point.num_correct / point.num_problems if measure == MEASURES[0] else point.num_tokens
