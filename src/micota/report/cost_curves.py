"""Accuracy against the arithmetic of training, over cases that differ in their budget (``sft.max_flops``)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import plotly.graph_objects as go

from micota.report.collect import BASELINE, Summary
from micota.report.style import REFERENCE, error_bars, number, over_cost, recipe_colours, styled
from micota.report.table import interval

CURVE_CAPTIONS = {
    "ways_by_budget": (
        "Accuracy against cost, by budget",
        "Average accuracy of each recipe with 95 % interval against the floating-point operations of its training, "
        "with its teacher and with answers that it samples, on a logarithmic axis: a line over the budgets. What was "
        "made before training is in the figures of single budgets alone. Dashed: the student before SFT.",
    )
}
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star")
Curve = list[tuple[int, Summary]]
"""Cases from the smallest budget on, each with its number."""


def curves(summaries: Sequence[Summary]) -> dict[str, Curve]:
    """Return the cases that differ in their budget alone, by the labels that they share (or their student)."""
    known = [(index, one) for index, one in enumerate(summaries) if one.spent and one.max_flops is not None]
    axes = known[0][1].labels if known else {}
    of_budget = {axis for axis in axes if _sets_budget(axis, [one for _, one in known])}
    found: dict[tuple[str, str], Curve] = {}
    for index, one in known:
        label = ", ".join(value for axis, value in one.labels.items() if axis not in of_budget) or one.student
        found.setdefault((one.student_path, label), []).append((index, one))
    return {
        label: sorted(cases, key=lambda case: case[1].max_flops or 0)
        for (_, label), cases in found.items()
        if len({one.max_flops for _, one in cases}) > 1
    }


def _sets_budget(axis: str, summaries: Sequence[Summary]) -> bool:
    """Whether the label on an axis determines the budget."""
    pairs = {(one.labels[axis], one.max_flops) for one in summaries}
    return len(pairs) == len({label for label, _ in pairs}) and len({budget for _, budget in pairs}) > 1


def curve_figures(summaries: Sequence[Summary]) -> dict[str, go.Figure]:
    """Return the figure of accuracy against cost over budgets; none without cases of two budgets."""
    found = curves(summaries)
    if not found:
        return {}
    figure = go.Figure()
    every = [one for cases in found.values() for _, one in cases]
    names = list(dict.fromkeys(row.name for one in every for row in one.recipes))
    colours = recipe_colours(names)
    for (label, cases), symbol in zip(found.items(), cycle(SYMBOLS), strict=False):
        for name in names:
            # The student before SFT costs nothing: its line spans those of the others.
            points = [
                (one.spent[name].training if name in one.spent else one.max_flops, index, row)
                for index, one in cases
                for row in one.recipes
                if row.name == name and (name in one.spent or name == BASELINE)
            ]
            estimates = [row.average for *_, row in points]
            figure.add_scatter(
                x=[cost for cost, *_ in points],
                y=[100 * estimate.value for estimate in estimates],
                error_y=error_bars(estimates, 0 if name == BASELINE else 1.5),
                mode="lines" if name == BASELINE else "lines+markers",
                line=REFERENCE if name == BASELINE else {"color": colours[name], "width": 2},
                marker={"size": 9, "color": colours[name], "symbol": symbol},
                name=name if len(found) == 1 else f"{label}, {name}",
                showlegend=True,
                customdata=[number(name, "average", row.average) | {"case": index} for _, index, row in points],
                text=[f"{name}, {cost:.2g} FLOPs: {interval(row.average)} %" for cost, _, row in points],
                hovertemplate="%{text}<extra></extra>",
            )
    costs = [cost for trace in figure.data for cost in trace.x]
    over_cost(figure, costs, "floating-point operations of training")
    figure.update_yaxes(title="average accuracy (%)")
    return {"ways_by_budget": styled(figure, height=460, legend={"orientation": "h", "y": -0.25})}
