"""Figures over all cases of an experiment: what one kind of data is worth against another, student by student."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from micota.analysis.gaps import BASE, LARGE_SMALL, LONG_SHORT, Gap, distilled, gaps
from micota.report.collect import Summary
from micota.report.style import COLOURS, REFERENCE, SPARE, error_bars, published_mark, styled
from micota.report.table import verdict

DISTILLED = ("strong", "half_size", "micota")  # whose gap to the student before SFT MiCoTA reports
GAP_CAPTION = (
    "What data are worth to each student",
    "Difference between two recipes of one student in points of average accuracy, paired by problem, with 95 % "
    "interval. "
    "Below 0 the first kind of data is the worse one for that student.",
)


def case_figures(summaries: Sequence[Summary]) -> dict[str, go.Figure]:
    """All figures over cases by name; none where there is a single case."""
    found = case_gaps(summaries) if len(summaries) > 1 else {}
    return {"gap": gap_figure(summaries, found)} if found else {}


def case_gaps(summaries: Sequence[Summary]) -> dict[str, list[Gap]]:
    """The papers' gaps by name: long less short CoT, large less small teacher, or each kind of data less none."""
    suites = {summary.place: {recipe.name: recipe.means for recipe in summary.recipes} for summary in summaries}
    pairs = [pair for pair in (LONG_SHORT, LARGE_SMALL) if gaps(suites, pair)]
    pairs = pairs or [distilled(recipe) for recipe in DISTILLED]
    return {f"{ours} less {theirs}": found for ours, theirs in pairs if (found := gaps(suites, (ours, theirs)))}


def published_gap(summary: Summary, ours: str, theirs: str) -> float | None:
    """The gap between two recipes in points as a paper has it, or as its averages have it; None where it has
    neither."""
    own, other = (summary.published.get(recipe, {}) for recipe in (ours, theirs))
    if "average" in own and "average" in other:
        return own["average"] - other["average"]
    return own.get("gap_to_instruct") if theirs == BASE else None


def gap_figure(summaries: Sequence[Summary], found: dict[str, list[Gap]]) -> go.Figure:
    """Cases from top to bottom, in each a point for every pair of recipes, and a stroke for what is published of it."""
    figure = go.Figure()
    places = [summary.place for summary in summaries]
    strokes: list[tuple[float, float, str]] = []
    for index, (name, own) in enumerate(found.items()):
        shift = 0.5 * ((index + 0.5) / len(found) - 0.5)
        estimates = [gap.difference for gap in own]
        figure.add_scatter(
            x=[100 * estimate.value for estimate in estimates],
            y=[places.index(gap.student) + shift for gap in own],
            error_x=error_bars(estimates, 1.5),
            mode="markers",
            marker={"size": 10, "color": COLOURS.get(own[0].recipe, SPARE[0])},
            name=name,
            showlegend=True,
            text=[f"{gap.student}, {name}: {verdict(gap.difference)}" for gap in own],
            customdata=[_about(gap, places.index(gap.student)) for gap in own],
            hovertemplate="%{text}<extra></extra>",
        )
        for gap in own:
            place = places.index(gap.student)
            value = published_gap(summaries[place], gap.recipe, gap.baseline)
            if value is not None:
                strokes.append((value, place + shift, f"{gap.student}, {name}: {value:+.1f} published"))
    if strokes:
        across, down, text = zip(*strokes, strict=True)
        figure.add_scatter(
            x=across, y=down, text=text, mode="markers", marker=published_mark(14), name="published",
            hovertemplate="%{text}<extra></extra>", showlegend=True,
        )  # fmt: skip
    figure.add_vline(x=0, line=REFERENCE)
    names = [place.replace(", ", ",<br>") for place in places]
    figure.update_yaxes(tickvals=list(range(len(places))), ticktext=names, range=[len(places) - 0.5, -0.5])
    figure.update_xaxes(title="difference (points)")
    legend = {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"}
    return styled(figure, height=150 + len(places) * max(34, 22 * len(found)), legend=legend)


def _about(gap: Gap, case: int) -> dict[str, object]:
    """Which number a point is, for a page that is clicked there: how the scores of ``gap.recipe`` were made."""
    about = {"about": f"average less {gap.baseline}", "shown": verdict(gap.difference)}
    return {"case": case, "model": gap.recipe, "measure": "average", **about}
