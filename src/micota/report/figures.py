"""The figures of a comparison, drawn from its summary and nothing else.

Backgrounds are transparent and no text has a colour of its own, so that a page can show them light or dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, cycle

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from micota.report.collect import BASELINE, Row, Summary
from micota.report.table import interval
from micota.statistics import Estimate

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
SPARE = ("#2e8b9a", "#8c6d4f", "#7b68ee", "#5f8f3a")
SYMBOLS = ("square-open", "diamond-open", "triangle-up-open", "cross-open", "star-open", "hexagon-open")
FONT_SIZE = 13
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"


CAPTIONS = {
    "accuracy": (
        "Accuracy by arm",
        "The filled circle is the unweighted average over benchmarks, open symbols are the single benchmarks; bars are "
        "95 % intervals over problems. The dashed line is the untouched student. Click an entry of the legend to hide "
        "it, a symbol to see how its number was made.",
    ),
    "lengths": (
        "Length of answers",
        "Boxes span the middle half of all answers and are cut by the median, whiskers reach from the 5th to the 95th "
        "percentile, diamonds are means; the axis is logarithmic. Right: answers that reached the limit of tokens "
        "before they gave an answer.",
    ),
    "merge": (
        "The teacher assistant (TA) between before and after fine-tuning",
        "Average accuracy with 95 % interval, and mean length of an answer, over the weight of the merge.",
    ),
    "bpc": (
        "How foreign the data are, and what they teach",
        "Bits that the untouched student needs for a byte of each arm's training data (BPC; less is more familiar), "
        "against the accuracy after training on them, with 95 % interval.",
    ),
}


def figures(summary: Summary) -> dict[str, go.Figure]:
    """All figures by name, in the order of ``CAPTIONS``; what was not measured is left out."""
    drawn: dict[str, go.Figure] = {}
    if summary.arms:
        drawn |= {"accuracy": accuracy_figure(summary), "lengths": length_figure(summary)}
    if summary.curve:
        drawn["merge"] = merge_figure(summary)
    if any(arm.bits_per_byte is not None for arm in summary.arms):
        drawn["bpc"] = bpc_figure(summary)
    return drawn


def arm_colours(names: Sequence[str]) -> dict[str, str]:
    """The colour of each arm, the same in every figure; arms of the user's own take the spare ones."""
    spare = cycle(SPARE)
    return {name: COLOURS.get(name) or next(spare) for name in names}


def accuracy_figure(summary: Summary) -> go.Figure:
    """Of each arm the average accuracy, and that of each benchmark, with 95 % intervals."""
    figure = go.Figure()
    symbols = dict(zip(["average", *summary.benchmarks], chain(["circle"], cycle(SYMBOLS)), strict=False))
    for measure, symbol in symbols.items():
        marker = {"symbol": symbol, "color": NEUTRAL, "size": 11 if measure == "average" else 8}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=measure, legendgroup=measure)
    colours = arm_colours([arm.name for arm in summary.arms])
    for index, arm in enumerate(summary.arms):
        estimates = {"average": arm.average, **{bench: arm.by_benchmark[bench] for bench in summary.benchmarks}}
        for place, (measure, estimate) in enumerate(estimates.items()):
            is_average = measure == "average"
            figure.add_scatter(
                x=[100 * estimate.value],
                y=[index - 0.33 + 0.66 * place / max(1, len(estimates) - 1)],
                error_x=_error([estimate], 2.5 if is_average else 1),
                mode="markers",
                marker={"symbol": symbols[measure], "color": colours[arm.name], "size": 11 if is_average else 8},
                legendgroup=measure,
                showlegend=False,
                customdata=[_number(arm.name, measure, estimate)],
                hovertemplate=f"{arm.name}, {measure}: {interval(estimate)} %<extra></extra>",
            )
    baseline = _baseline(summary)
    if baseline is not None:
        figure.add_vline(x=baseline, line=REFERENCE)
    top = max(estimate.high for arm in summary.arms for estimate in (arm.average, *arm.by_benchmark.values()))
    figure.update_xaxes(title="accuracy (%)", range=[0, min(102.0, 10 * math.ceil(10 * top + 0.3))])
    return _by_arm(figure, summary)


def length_figure(summary: Summary) -> go.Figure:
    """Of each arm the distribution of tokens an answer, and the share of answers cut off at the limit."""
    figure = make_subplots(rows=1, cols=2, column_widths=[0.74, 0.26], shared_yaxes=True, horizontal_spacing=0.05)
    colours = arm_colours([arm.name for arm in summary.arms])
    for index, arm in enumerate(summary.arms):
        style = {"y": [index], "showlegend": False, "name": arm.name}
        bar = {**style, "orientation": "h", "width": 0.5, "marker": {"color": colours[arm.name]}}
        # Quantiles instead of every length: the figure does not grow with the number of problems and seeds.
        quantiles = np.percentile(np.maximum(arm.tokens, 1), [5, 25, 50, 75, 95])
        names = ("lowerfence", "q1", "median", "q3", "upperfence")
        box = {name: [value] for name, value in zip(names, quantiles, strict=True)}
        figure.add_box(**bar, **box, row=1, col=1)
        mean = {"symbol": "diamond", "size": 9, "color": colours[arm.name], "line": {"width": 1, "color": "white"}}
        hover = f"mean {arm.num_tokens:.0f} tokens"
        figure.add_scatter(x=[arm.num_tokens], mode="markers", marker=mean, hovertemplate=hover, **style, row=1, col=1)
        share = 100 * truncated_share(arm)
        label = {"text": [f"{share:.1f}"], "textposition": "outside", "cliponaxis": False}
        figure.add_bar(x=[share], **label, hovertemplate=f"{share:.1f} % truncated", **bar, row=1, col=2)
    ticks = [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
    figure.update_xaxes(title="tokens per answer", type="log", tickvals=ticks, row=1, col=1)
    largest = max(100 * truncated_share(arm) for arm in summary.arms)
    figure.update_xaxes(title="truncated (%)", range=[0, max(5, 1.5 * largest)], nticks=3, row=1, col=2)
    return _by_arm(figure, summary)


def merge_figure(summary: Summary) -> go.Figure:
    """The TA over merge weights, from before SFT (0) to after it (1): accuracy above, length below."""
    titles = ("average accuracy (%)", "tokens per answer")
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.12, subplot_titles=titles)
    figure.update_annotations(x=0, xanchor="left", font={"size": FONT_SIZE})
    weights = sorted(summary.curve)
    rows = [summary.curve[weight] for weight in weights]
    style = {
        "x": weights,
        "mode": "lines+markers",
        "line": {"color": TA_COLOUR, "width": 2},
        "marker": {"size": 9, "color": TA_COLOUR},
        "showlegend": False,
        "hovertemplate": "weight %{x:g}: %{customdata}<extra></extra>",
    }
    figure.add_scatter(
        y=[100 * row.average.value for row in rows],
        error_y=_error([row.average for row in rows], 2),
        customdata=[f"{interval(row.average)} %" for row in rows],
        **style,
        row=1,
        col=1,
    )
    lengths = [row.num_tokens for row in rows]
    figure.add_scatter(y=lengths, customdata=[f"{length:.0f} tokens" for length in lengths], **style, row=2, col=1)
    figure.update_yaxes(rangemode="tozero", row=2, col=1)
    figure.update_xaxes(range=[-0.04, 1.04], tickvals=weights)
    figure.update_xaxes(title="merge weight (0: before SFT, 1: after SFT)", row=2, col=1)
    return styled(figure, height=460)


def bpc_figure(summary: Summary) -> go.Figure:
    """How hard the training data are for the untouched student, against the accuracy of the student trained on them."""
    figure = go.Figure()
    arms = [(arm, arm.bits_per_byte) for arm in summary.arms if arm.bits_per_byte is not None]
    colours = arm_colours([arm.name for arm in summary.arms])
    baseline = _baseline(summary)
    places = _label_places([(bpc, 100 * arm.average.value) for arm, bpc in arms], baseline)
    for (arm, bpc), place in zip(arms, places, strict=True):
        figure.add_scatter(
            x=[bpc],
            y=[100 * arm.average.value],
            error_y=_error([arm.average], 1.5),
            mode="markers+text",
            marker={"size": 12 if arm.name == METHOD else 10, "color": colours[arm.name]},
            text=[_label(arm.name)],
            textposition=place,
            cliponaxis=False,
            showlegend=False,
            hovertemplate=f"{arm.name}: {bpc:.3f} bits per byte, {interval(arm.average)} %<extra></extra>",
        )
    if baseline is not None:
        label = {"text": BASELINE, "xanchor": "right", "yanchor": "bottom"}
        figure.add_hline(y=baseline, line=REFERENCE, annotation=label)
    values = [bpc for _, bpc in arms]
    margin = 0.22 * (max(values) - min(values)) or 0.1 * max(values)  # room for the labels at both ends
    limits = [min(values) - margin, max(values) + margin]
    figure.update_xaxes(title="BPC of the training data (bits per byte)", range=limits)
    figure.update_yaxes(title="average accuracy (%)")
    return styled(figure, height=460)


def _number(model: str, measure: str, estimate: Estimate) -> dict[str, str]:
    """Which number a point is: a page that is clicked there shows how it was made."""
    return {"model": model, "measure": measure, "shown": f"{interval(estimate)} %"}


def truncated_share(arm: Row) -> float:
    """Share of answers that reached the limit of tokens before they gave an answer."""
    return arm.outcomes.get("truncated", 0) / sum(arm.outcomes.values())


def _label_places(points: Sequence[tuple[float, float]], line: float | None) -> list[str]:
    """Left or right of each point, above or below its middle, where other points, labels and a line are farthest away.

    Never straight above or below: there the error bar is.
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
    places = []
    for number, (x, y) in enumerate(scaled):
        taken = [*scaled[:number], *scaled[number + 1 :], *labels]

        def room(name: str, x: float = x, y: float = y, taken: list[tuple[float, float]] = taken) -> float:
            dx, dy = offsets[name]
            # A label is several times wider than high, so distances up and down count more.
            beside = [math.hypot(x + dx - a, 2.5 * (y + dy - b)) for a, b in taken]
            return min([*beside, *(2.5 * abs(y + dy - b) for b in lines), 0.25])

        place = max(offsets, key=room)
        labels.append((x + offsets[place][0], y + offsets[place][1]))
        places.append(place)
    return places


def _error(estimates: Sequence[Estimate], thickness: float) -> dict[str, object]:
    """Asymmetric error bars in percent, in the colour of their markers."""
    return {
        "array": [100 * (estimate.high - estimate.value) for estimate in estimates],
        "arrayminus": [100 * (estimate.value - estimate.low) for estimate in estimates],
        "thickness": thickness,
        "width": 0,
    }


def _baseline(summary: Summary) -> float | None:
    """Average accuracy of the untouched student in percent, where it is part of the comparison."""
    return next((100 * arm.average.value for arm in summary.arms if arm.name == BASELINE), None)


def _label(name: str) -> str:
    return f"<b>{name}</b>" if name == METHOD else name


def _by_arm(figure: go.Figure, summary: Summary) -> go.Figure:
    """Arms from top to bottom, in rows of the same height in every figure, on a band where the method is."""
    names = [arm.name for arm in summary.arms]
    if METHOD in names:
        index = names.index(METHOD)
        figure.add_hrect(
            y0=index - 0.5, y1=index + 0.5, fillcolor=COLOURS[METHOD], opacity=0.12, line_width=0, layer="below"
        )
    for index in range(1, len(names)):
        figure.add_hline(y=index - 0.5, line={"color": FAINT, "width": 1}, layer="below")
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=[_label(name) for name in names],
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


def styled(figure: go.Figure, **layout: object) -> go.Figure:
    """What all figures share; colours of text, axes and grid that read on light and on dark."""
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
