"""Figures over all cases of an experiment: gaps between two recipes, student by student."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import plotly.graph_objects as go

from micota.analysis.gaps import LARGE_SMALL, LONG_SHORT, Gap, GapDifference, distilled, gap_differences, gaps
from micota.report.collect import Summary
from micota.report.cost_curves import CURVE_CAPTIONS, curve_figures
from micota.report.size_figures import SIZE_CAPTIONS, about, published_gap, size_figures, size_remark
from micota.report.sizes import family_of, size_of
from micota.report.style import COLOURS, REFERENCE, SPARE, error_bars, published_mark, styled
from micota.report.table import verdict

DISTILLED = ("strong", "half_size", "micota")  # MiCoTA reports their gap to the student before SFT
GAP_CAPTION = (
    "Gaps between recipes for each student",
    "Difference between two recipes of one student in points of average accuracy, paired by problem, with 95 % "
    "interval. Below 0 the first recipe is worse for that student.",
)
CASE_CAPTIONS = CURVE_CAPTIONS | {"gap": GAP_CAPTION} | SIZE_CAPTIONS


def case_figures(summaries: Sequence[Summary]) -> dict[str, go.Figure]:
    """Return all figures over cases by name; empty for a single case."""
    gaps_by_name = case_gaps(summaries) if len(summaries) > 1 else {}
    figures = {"gap": gap_figure(summaries, gaps_by_name)} if gaps_by_name else {}
    return curve_figures(summaries) | figures | size_figures(summaries, gaps_by_name)


def case_captions(summaries: Sequence[Summary]) -> dict[str, tuple[str, str]]:
    """Return title and text of each figure, with where gaps cross 0."""
    title, text = CASE_CAPTIONS["gap_by_size"]
    remark = size_remark(summaries, case_gaps(summaries))
    return CASE_CAPTIONS | {"gap_by_size": (title, f"{text} {remark}".rstrip())}


def case_gap_differences(summaries: Sequence[Summary]) -> list[GapDifference]:
    """Return the differences of gaps between students, over the gaps of :func:`case_gaps`.

    Compared are cases of one student (with two teachers), of one size in different families (a base model and an
    instruct model, a maths expert and a general model), and the smallest and the largest student of each family.
    """
    suites = {summary.case_label: {recipe.name: recipe.means for recipe in summary.recipes} for summary in summaries}
    pairs = _pairs(summaries)
    found = case_gaps(summaries) if pairs else {}
    named = [(gap.recipe, gap.baseline) for gap in (values[0] for values in found.values())]
    return [difference for recipes in named for difference in gap_differences(suites, recipes, pairs)]


def _pairs(summaries: Sequence[Summary]) -> list[tuple[str, str]]:
    known = [(case, size_of(case.student_path), family_of(case.student_path)) for case in summaries]
    pairs = [
        (one.case_label, other.case_label)
        for (one, size, family), (other, other_size, other_family) in combinations(known, 2)
        if (one.student_path and one.student_path == other.student_path)
        or (size is not None and size == other_size and family != other_family)
    ]
    for family in dict.fromkeys(family for _, size, family in known if size is not None):
        sized = sorted(
            ((size, case) for case, size, other in known if other == family and size), key=lambda one: one[0]
        )
        if sized[0][0] < sized[-1][0]:
            pairs.append((sized[0][1].case_label, sized[-1][1].case_label))
    return pairs


def case_gaps(summaries: Sequence[Summary]) -> dict[str, list[Gap]]:
    """Return the papers' gaps by name: long minus short CoT, large minus small teacher, or each recipe minus none."""
    suites = {summary.case_label: {recipe.name: recipe.means for recipe in summary.recipes} for summary in summaries}
    pairs = [pair for pair in (LONG_SHORT, LARGE_SMALL) if gaps(suites, pair)]
    pairs = pairs or [distilled(recipe) for recipe in DISTILLED]
    return {" minus ".join(pair): values for pair in pairs if (values := gaps(suites, pair))}


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
            customdata=[about(gap, labels.index(gap.student)) for gap in case_gaps],
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
