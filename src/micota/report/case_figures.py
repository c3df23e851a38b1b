"""Figures over all cases of an experiment: what one kind of data is worth against another, student by student."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from micota.findings.gaps import LARGE_SMALL, LONG_SHORT, Gap, distilled, gaps
from micota.report.collect import Summary
from micota.report.style import COLOURS, REFERENCE, SPARE, error_bars, styled
from micota.report.table import verdict

DISTILLED = ("strong", "half_size", "micota")  # whose gap to the untouched student MiCoTA reports
GAP_CAPTION = (
    "What data are worth to each student",
    "Difference between two arms of one student in points of average accuracy, paired by problem, with 95 % interval. "
    "Below 0 the first kind of data is the worse one for that student.",
)


def case_figures(summaries: Sequence[Summary]) -> dict[str, go.Figure]:
    """All figures over cases by name; none where there is a single case."""
    found = case_gaps(summaries) if len(summaries) > 1 else {}
    return {"gap": gap_figure([summary.place for summary in summaries], found)} if found else {}


def case_gaps(summaries: Sequence[Summary]) -> dict[str, list[Gap]]:
    """The papers' gaps by name: long less short CoT, large less small teacher, or each kind of data less none."""
    suites = {summary.place: {arm.name: arm.means for arm in summary.arms} for summary in summaries}
    pairs = [pair for pair in (LONG_SHORT, LARGE_SMALL) if gaps(suites, pair)]
    pairs = pairs or [distilled(arm) for arm in DISTILLED]
    return {f"{ours} less {theirs}": found for ours, theirs in pairs if (found := gaps(suites, (ours, theirs)))}


def gap_figure(places: Sequence[str], found: dict[str, list[Gap]]) -> go.Figure:
    """Cases from top to bottom, in each a point for every pair of arms."""
    figure = go.Figure()
    for index, (name, own) in enumerate(found.items()):
        shift = 0.5 * ((index + 0.5) / len(found) - 0.5)
        estimates = [gap.difference for gap in own]
        figure.add_scatter(
            x=[100 * estimate.value for estimate in estimates],
            y=[places.index(gap.student) + shift for gap in own],
            error_x=error_bars(estimates, 1.5),
            mode="markers",
            marker={"size": 10, "color": COLOURS.get(own[0].ours, SPARE[0])},
            name=name,
            showlegend=True,
            text=[f"{gap.student}, {name}: {verdict(gap.difference)}" for gap in own],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.add_vline(x=0, line=REFERENCE)
    names = [place.replace(", ", ",<br>") for place in places]
    figure.update_yaxes(tickvals=list(range(len(places))), ticktext=names, range=[len(places) - 0.5, -0.5])
    figure.update_xaxes(title="difference (points)")
    legend = {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"}
    return styled(figure, height=150 + len(places) * max(34, 22 * len(found)), legend=legend)
