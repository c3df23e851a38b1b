"""Merges measured in memory as a figure: accuracy and length over weight, and over density where there are several."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from micota.records import ProbePoint
from micota.report.style import FONT_SIZE, REFERENCE, SPARE, TA_COLOUR, TEACHER_COLOUR, styled

MEASURES = ("accuracy (%)", "tokens per answer")


def probe_page(title: str, points: Sequence[ProbePoint]) -> str:
    """A page of HTML that loads nothing from anywhere."""
    return str(probe_figure(title, points).to_html(include_plotlyjs=True, config={"displaylogo": False}))


def probe_figure(title: str, points: Sequence[ProbePoint]) -> go.Figure:
    """Means over seeds as lines, bars from the lowest seed to the highest; the TA before and after SFT as dashes."""
    merged = [point for point in points if point.form == "merged"]
    densities = sorted({point.density for point in merged if point.density is not None})
    weights = sorted({point.weight for point in merged if point.weight is not None})
    columns = [("weight", "density", densities)] + ([("density", "weight", weights)] if len(densities) > 1 else [])
    titles = [measure for measure in MEASURES for _ in columns]
    figure = make_subplots(rows=2, cols=len(columns), shared_xaxes="columns", subplot_titles=titles)
    figure.update_annotations(font={"size": FONT_SIZE})
    for column, (axis, line, values) in enumerate(columns, start=1):
        colours = cycle((TA_COLOUR, TEACHER_COLOUR, *SPARE))
        for value, colour in zip(values, colours, strict=False):
            own = [point for point in merged if getattr(point, line) == value]
            for row, measure in enumerate(MEASURES, start=1):
                style = {"name": f"{line} {value:g}", "legendgroup": f"{line} {value:g}", "line": {"color": colour}}
                curve = _curve(own, axis, measure)
                figure.add_scatter(**style, **curve, showlegend=row == 1, mode="lines+markers", row=row, col=column)
        figure.update_xaxes(title=f"merge {axis}", row=2, col=column)
    for point in points:
        if point.form != "merged":
            for row, measure in enumerate(MEASURES, start=1):
                label = f"{point.form} SFT"
                figure.add_hline(y=_value(point, measure), line=REFERENCE, annotation_text=label, row=row, col="all")
    figure.update_yaxes(rangemode="tozero", row=2)
    return styled(figure, height=620, title={"text": title, "font": {"size": FONT_SIZE + 2}})


def _curve(points: Sequence[ProbePoint], axis: str, measure: str) -> dict[str, Any]:
    """Mean over seeds at each place on the axis, with the spread of the seeds as error bars."""
    places = sorted({getattr(point, axis) for point in points})
    seeds = [[_value(point, measure) for point in points if getattr(point, axis) == place] for place in places]
    means = [sum(values) / len(values) for values in seeds]
    above = [max(values) - mean for values, mean in zip(seeds, means, strict=True)]
    below = [mean - min(values) for values, mean in zip(seeds, means, strict=True)]
    return {"x": places, "y": means, "error_y": {"array": above, "arrayminus": below, "thickness": 1.5}}


def _value(point: ProbePoint, measure: str) -> float:
    return 100 * point.num_correct / point.num_problems if measure == MEASURES[0] else point.num_tokens
