"""Figures over all cases of an experiment: gaps between two recipes, student by student."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from micota.analysis.gaps import BASE, LARGE_SMALL, LONG_SHORT, Gap, distilled, gaps
from micota.report.collect import Summary
from micota.report.style import COLOURS, REFERENCE, SPARE, error_bars, published_mark, styled
from micota.report.table import verdict

DISTILLED = ("strong", "half_size", "micota")  # MiCoTA reports their gap to the student before SFT
GAP_CAPTION = (
    "Gaps between recipes for each student",
    "Difference between two recipes of one student in points of average accuracy, paired by problem, with 95 % "
    "interval. Below 0 the first recipe is worse for that student.",
)


def case_figures(summaries: Sequence[Summary]) -> dict[str, go.Figure]:
    """Return all figures over cases by name; empty for a single case."""
    gaps_by_name = case_gaps(summaries) if len(summaries) > 1 else {}
    return {"gap": gap_figure(summaries, gaps_by_name)} if gaps_by_name else {}


def case_gaps(summaries: Sequence[Summary]) -> dict[str, list[Gap]]:
    """Return the papers' gaps by name: long minus short CoT, large minus small teacher, or each recipe minus none."""
    suites = {summary.case_label: {recipe.name: recipe.means for recipe in summary.recipes} for summary in summaries}
    pairs = [pair for pair in (LONG_SHORT, LARGE_SMALL) if gaps(suites, pair)]
    pairs = pairs or [distilled(recipe) for recipe in DISTILLED]
    return {" minus ".join(pair): values for pair in pairs if (values := gaps(suites, pair))}


def published_gap(summary: Summary, recipe: str, baseline: str) -> float | None:
    """Return the published gap between two recipes in points, or the difference of their published averages; None if
    the paper has neither."""
    first, second = (summary.published.get(name, {}) for name in (recipe, baseline))
    if "average" in first and "average" in second:
        return first["average"] - second["average"]
    return first.get("gap_to_instruct") if baseline == BASE else None


def gap_figure(summaries: Sequence[Summary], gaps_by_name: dict[str, list[Gap]]) -> go.Figure:
    """Plot cases from top to bottom, each with a point per pair of recipes and a stroke for its published value."""
    figure = go.Figure()
    labels = [summary.case_label for summary in summaries]
    strokes: list[tuple[float, float, str]] = []
    for index, (name, case_gaps) in enumerate(gaps_by_name.items()):
        shift = 0.5 * ((index + 0.5) / len(gaps_by_name) - 0.5)
        estimates = [gap.difference for gap in case_gaps]
        figure.add_scatter(
            x=[100 * estimate.value for estimate in estimates],
            y=[labels.index(gap.student) + shift for gap in case_gaps],
            error_x=error_bars(estimates, 1.5),
            mode="markers",
            marker={"size": 10, "color": COLOURS.get(case_gaps[0].recipe, SPARE[0])},
            name=name,
            showlegend=True,
            text=[f"{gap.student}, {name}: {verdict(gap.difference)}" for gap in case_gaps],
            customdata=[_about(gap, labels.index(gap.student)) for gap in case_gaps],
            hovertemplate="%{text}<extra></extra>",
        )
        for gap in case_gaps:
            case = labels.index(gap.student)
            value = published_gap(summaries[case], gap.recipe, gap.baseline)
            if value is not None:
                strokes.append((value, case + shift, f"{gap.student}, {name}: {value:+.1f} published"))
    if strokes:
        across, down, text = zip(*strokes, strict=True)
        figure.add_scatter(
            x=across, y=down, text=text, mode="markers", marker=published_mark(14), name="published",
            hovertemplate="%{text}<extra></extra>", showlegend=True,
        )  # fmt: skip
    figure.add_vline(x=0, line=REFERENCE)
    names = [label.replace(", ", ",<br>") for label in labels]
    figure.update_yaxes(tickvals=list(range(len(labels))), ticktext=names, range=[len(labels) - 0.5, -0.5])
    figure.update_xaxes(title="difference (points)")
    legend = {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"}
    return styled(figure, height=150 + len(labels) * max(34, 22 * len(gaps_by_name)), legend=legend)


def _about(gap: Gap, case: int) -> dict[str, object]:
    """Return the number that a point shows; a click on it opens the lineage of the scores of ``gap.recipe``."""
    about = {"about": f"average minus {gap.baseline}", "shown": verdict(gap.difference)}
    return {"case": case, "model": gap.recipe, "measure": "average", **about}
