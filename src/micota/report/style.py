"""Shared style of the figures of a report: colours, the order of recipes, error bars, fonts.

Backgrounds are transparent and no text has a fixed colour, so a page can show them light or dark.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import cycle

import plotly.graph_objects as go

from micota.analysis.intervals import Estimate
from micota.report.collect import BASELINE, Summary
from micota.report.table import interval

METHOD = "micota"
NEUTRAL = "#808080"
FAINT = "rgba(128,128,128,0.22)"
REFERENCE = {"color": NEUTRAL, "dash": "dash", "width": 1.5}
TA_COLOUR = "#5b6fc9"
TEACHER_COLOUR = "#8f6fb5"
# Okabe and Ito's palette, its light colours darkened until all of them stand out from white and from black (3:1).
COLOURS = {
    "instruct": "#7f7f7f",
    "strong": "#0072b2",
    "half_size": "#3a97d3",
    "short": "#009e73",
    "mix_long": "#c8699b",
    "mix_large": "#b98500",
    "large": "#8a8a2b",
    "small": "#a2549b",
    METHOD: "#d55e00",
}
SPARE = ("#2e8b9a", "#8c6d4f", "#7b68ee", "#5f8f3a", "#c25b56")
SYMBOLS = ("square-open", "diamond-open", "triangle-up-open", "cross-open", "star-open", "hexagon-open")
FONT_SIZE = 13
LABEL_SHARE = 0.4  # of the span of the points: a label beside its point, in the figure of a phone
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"


def recipe_colours(names: Sequence[str]) -> dict[str, str]:
    """Return the colour of each recipe, the same in every figure; recipes that users add get the spare colours."""
    spare = cycle(SPARE)
    return {name: COLOURS.get(name) or next(spare) for name in names}


def styled(figure: go.Figure, **layout: object) -> go.Figure:
    """Apply the shared layout; text, axes and grid are readable on light and on dark backgrounds."""
    axis = {"showline": True, "ticks": "outside", "zeroline": False, "automargin": True}
    title = {"title_standoff": 8, "title_font": {"size": FONT_SIZE + 1}}
    faint = {"gridcolor": FAINT, "linecolor": NEUTRAL, "tickcolor": NEUTRAL}
    figure.update_xaxes(**axis, **title, **faint)
    figure.update_yaxes(**axis, **title, **faint)
    figure.update_layout(
        template="none",
        font={"family": FONT, "size": FONT_SIZE},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 12, "r": 16, "t": 40, "b": 12},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": NEUTRAL, "activecolor": NEUTRAL},
        dragmode=False,
        **layout,
    )
    return figure


def by_recipe(figure: go.Figure, summary: Summary) -> go.Figure:
    """Lay out recipes from top to bottom in rows of equal height, with a band behind the method."""
    names = [recipe.name for recipe in summary.recipes]
    if METHOD in names:
        index = names.index(METHOD)
        figure.add_hrect(
            y0=index - 0.5, y1=index + 0.5, fillcolor=COLOURS[METHOD], opacity=0.12, line_width=0, layer="below"
        )
    for index in range(1, len(names)):
        figure.add_hline(y=index - 0.5, line={"color": FAINT, "width": 1}, layer="below")
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=[label_of(name) for name in names],
        range=[len(names) - 0.5, -0.5],
        showgrid=False,
    )
    legend = {
        "orientation": "h",
        "x": 0,
        "y": 1.0,
        "yanchor": "bottom",
        "itemclick": "toggle",
        "itemdoubleclick": False,
    }
    rows = len(summary.benchmarks) + 1
    return styled(figure, height=120 + len(names) * max(46, 15 * rows), legend=legend)


def over_cost(figure: go.Figure, costs: Sequence[float], title: str) -> go.Figure:
    """Give a figure a logarithmic axis of floating-point operations, with the ticks of ``cost_ticks``."""
    ticks = cost_ticks(min(costs), max(costs))
    words = [re.sub(r"e\+0*", "e", f"{tick:.3g}") for tick in ticks]  # as in case labels and on the command line
    return figure.update_xaxes(title=title, type="log", tickvals=ticks, ticktext=words)


def cost_ticks(low: float, high: float) -> list[float]:
    """Return round numbers around and between two costs, at most six, so that their texts fit a phone: 1, 2 and 5 of
    each power of ten, or fewer of them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors, every in (((1, 2, 5), 1), ((1, 3), 1), *(((1,), step) for step in range(1, last - first + 2))):
        ticks = [factor * 10.0**power for power in range(first, last + 1, every) for factor in factors]
        within = [tick for tick in ticks if low / 1.5 <= tick <= high * 1.5]
        if 2 <= len(within) <= 6:
            return within
    return [low, high] if high > 1.5 * low else [low]


def error_bars(estimates: Sequence[Estimate], thickness: float) -> dict[str, object]:
    """Return asymmetric error bars in percent, in the colour of their markers."""
    return {
        "array": [100 * (estimate.high - estimate.value) for estimate in estimates],
        "arrayminus": [100 * (estimate.value - estimate.low) for estimate in estimates],
        "thickness": thickness,
        "width": 0,
    }


def number(model: str, measure: str, estimate: Estimate) -> dict[str, str]:
    """Return the number that a point shows; a click on it opens its lineage."""
    return {"model": model, "measure": measure, "shown": f"{interval(estimate)} %"}


def published_mark(size: int) -> dict[str, object]:
    """Return the marker of a published number: a stroke across its axis."""
    return {"symbol": "line-ns", "size": size, "line": {"width": 2, "color": NEUTRAL}}


def baseline_of(summary: Summary) -> float | None:
    """Return the average accuracy of the student before SFT in percent; None if it is not one of the recipes."""
    return next((100 * recipe.average.value for recipe in summary.recipes if recipe.name == BASELINE), None)


def label_of(name: str) -> str:
    return f"<b>{name}</b>" if name == METHOD else name


def label_positions(points: Sequence[tuple[float, float]], line: float | None) -> list[str]:
    """Return the position of each label: left or right of its point, farthest from other points, labels and the line.

    It is never straight above or below, where the error bar is.
    """
    offsets = {
        "middle right": (0.13, 0.0),
        "middle left": (-0.13, 0.0),
        "top right": (0.11, 0.05),
        "bottom right": (0.11, -0.05),
        "top left": (-0.11, 0.05),
        "bottom left": (-0.11, -0.05),
    }
    spans = [max(column) - min(column) or 1.0 for column in zip(*points, strict=True)]
    scaled = [(x / spans[0], y / spans[1]) for x, y in points]
    lines = [] if line is None else [line / spans[1]]
    labels: list[tuple[float, float]] = []
    positions = []
    for number, (x, y) in enumerate(scaled):
        taken = [*scaled[:number], *scaled[number + 1 :], *labels]

        def distance(name: str, x: float = x, y: float = y, taken: list[tuple[float, float]] = taken) -> float:
            dx, dy = offsets[name]
            # A label is several times wider than high, so distances up and down count more.
            beside = [math.hypot(x + dx - a, 2.5 * (y + dy - b)) for a, b in taken]
            return min([*beside, *(2.5 * abs(y + dy - b) for b in lines), 0.25])

        position = max(offsets, key=distance)
        labels.append((x + offsets[position][0], y + offsets[position][1]))
        positions.append(position)
    return positions


def with_space(values: Sequence[float], positions: Sequence[str]) -> list[float]:
    """Return the ends of an axis with space for labels beside the points at both ends, as wide as a phone needs.

    Args:
        positions: of the label of each point, as of :func:`label_positions`.
    """
    low, high = min(values), max(values)
    span = high - low or 0.2 * abs(high) or 1.0
    needed = {"left": 0.0, "right": 0.0}
    for value, position in zip(values, positions, strict=True):
        side = position.split()[1]
        inside = (value - low if side == "left" else high - value) / span
        needed[side] = max(needed[side], LABEL_SHARE - inside)
    return [low - max(0.1, needed["left"]) * span, high + max(0.1, needed["right"]) * span]


def emptier_side(points: Sequence[tuple[float, float]], height: float) -> str:
    """Return ``left`` or ``right``: the end of a horizontal line at ``height`` with the farther nearest point."""
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    heights = [y for _, y in points] + [height]
    width, tall = high - low or 1.0, max(heights) - min(heights) or 1.0

    def nearest(end: float) -> float:
        return min(math.hypot((x - end) / width, 2.5 * (y - height) / tall) for x, y in points)

    return "left" if nearest(low) > nearest(high) else "right"
