"""Figures over the size of the student: gaps between two recipes, accuracy of each recipe, BPC of its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

import plotly.graph_objects as go

from micota.analysis.crossing import Crossing, crossing
from micota.analysis.gaps import BASE, Gap
from micota.report.collect import Summary
from micota.report.rows import Row
from micota.report.sizes import family_of, in_words, size_of
from micota.report.style import COLOURS, REFERENCE, SPARE, error_bars, number, recipe_colours, styled
from micota.report.table import interval, verdict

SIZE_CAPTIONS = {
    "gap_by_size": (
        "Gaps by the size of the student",
        "The same gaps over the parameters of the student, a line for each family of models, with 95 % intervals. "
        "Crosses are published.",
    ),
    "accuracy_by_size": (
        "Accuracy by the size of the student",
        "Average accuracy of each recipe over the parameters of the student, with 95 % intervals over problems. "
        "Dashed: the student before SFT.",
    ),
    "bpc_by_size": (
        "BPC by the size of the student",
        "Bits per byte of each recipe's training data under the student before SFT, over its parameters.",
    ),
}
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star")
GapsByName = Mapping[str, Sequence[Gap]]
Sized = list[tuple[float, int, Summary]]
"""Students of one family from the smallest on: billions of parameters, number of the case, and its summary."""


def size_figures(summaries: Sequence[Summary], gaps_by_name: GapsByName) -> dict[str, go.Figure]:
    """Return the figures by name, in the order of ``SIZE_CAPTIONS``; none without students of two known sizes."""
    families = families_of(summaries)
    if len({size for students in families.values() for size, _, _ in students}) < 2:
        return {}
    figures = {}
    if gaps_by_name:
        figures["gap_by_size"] = gap_by_size(families, gaps_by_name)
    if any(summary.recipes for summary in summaries):
        figures["accuracy_by_size"] = accuracy_by_size(families)
    if any(summary.bits_per_byte for summary in summaries):
        figures["bpc_by_size"] = bpc_by_size(families)
    return figures


def families_of(summaries: Sequence[Summary]) -> dict[str, Sized]:
    """Return the students whose path names their size, by family."""
    families: dict[str, Sized] = {}
    for index, summary in enumerate(summaries):
        size = size_of(summary.student_path)
        if size is not None:
            families.setdefault(family_of(summary.student_path), []).append((size, index, summary))
    return {family: sorted(students, key=lambda one: one[0]) for family, students in families.items()}


def published_gap(summary: Summary, recipe: str, baseline: str) -> float | None:
    """Return the published gap between two recipes in points, or the difference of their published averages; None if
    the paper has neither."""
    first, second = (summary.published.get(name, {}) for name in (recipe, baseline))
    if "average" in first and "average" in second:
        return first["average"] - second["average"]
    return first.get("gap_to_instruct") if baseline == BASE else None


def gap_by_size(families: Mapping[str, Sized], gaps_by_name: GapsByName) -> go.Figure:
    """Plot gaps over size: a line per family and pair of recipes, a cross per published gap."""
    figure = go.Figure()
    for (family, students), symbol in zip(families.items(), cycle(SYMBOLS), strict=False):
        for name, values in gaps_by_name.items():
            by_case = {gap.student: gap for gap in values}
            line = [
                (size, index, summary, by_case[summary.case_label])
                for size, index, summary in students
                if summary.case_label in by_case
            ]
            if not line:
                continue
            colour = COLOURS.get(line[0][3].recipe, SPARE[0])
            figure.add_scatter(
                x=[size for size, *_ in line],
                y=[100 * gap.difference.value for *_, gap in line],
                error_y=error_bars([gap.difference for *_, gap in line], 1.5),
                mode="lines+markers",
                marker={"size": 10, "color": colour, "symbol": symbol},
                line={"color": colour},
                name=f"{family}, {name}",
                showlegend=True,  # of one line too: it says which gap
                text=[f"{gap.student}, {name}: {verdict(gap.difference)}" for *_, gap in line],
                customdata=[about(gap, index) for _, index, _, gap in line],
                hovertemplate="%{text}<extra></extra>",
            )
            known = [(size, published_gap(summary, gap.recipe, gap.baseline)) for size, _, summary, gap in line]
            printed = [(size, value) for size, value in known if value is not None]
            figure.add_scatter(
                x=[size for size, _ in printed],
                y=[value for _, value in printed],
                mode="markers",
                marker={"symbol": "x-thin-open", "size": 9, "color": colour},
                showlegend=False,
                hovertemplate=f"{family}, {name}: %{{y:+.1f}} published<extra></extra>",
            )
    figure.add_hline(y=0, line=REFERENCE)
    figure.update_yaxes(title="difference (points)")
    return _over_size(figure, families)


def accuracy_by_size(families: Mapping[str, Sized]) -> go.Figure:
    """Plot the average accuracy of each recipe over size, a line per family and recipe."""
    figure = go.Figure()
    for name, line, style in _lines(families):
        rows = [(size, index, row) for size, index, summary in line if (row := _row(summary, name)) is not None]
        if not rows:
            continue
        figure.add_scatter(
            x=[size for size, *_ in rows],
            y=[100 * row.average.value for *_, row in rows],
            error_y=error_bars([row.average for *_, row in rows], 1.5),
            customdata=[number(name, "average", row.average) | {"case": index} for _, index, row in rows],
            text=[f"{name}, {in_words(size)}: {interval(row.average)} %" for size, _, row in rows],
            **style,
        )
    figure.update_yaxes(title="average accuracy (%)")
    return _over_size(figure, families)


def bpc_by_size(families: Mapping[str, Sized]) -> go.Figure:
    """Plot the BPC of each recipe's data over size, a line per family and recipe."""
    figure = go.Figure()
    for name, line, style in _lines(families):
        points = [(size, summary.bits_per_byte[name]) for size, _, summary in line if name in summary.bits_per_byte]
        if points:
            figure.add_scatter(
                x=[size for size, _ in points],
                y=[bits for _, bits in points],
                text=[f"{name}, {in_words(size)}: {bits:.3f} bits per byte" for size, bits in points],
                **style,
            )
    figure.update_yaxes(title="BPC (bits per byte)", rangemode="tozero")
    return _over_size(figure, families)


def size_remark(summaries: Sequence[Summary], gaps_by_name: GapsByName) -> str:
    """Return where each gap crosses 0 over the size of the student, as sentences; empty for fewer than two sizes."""
    labels = {summary.case_label: {row.name: row.means for row in summary.recipes} for summary in summaries}
    sentences = []
    for family, students in families_of(summaries).items():
        for name, values in gaps_by_name.items():
            suites = {
                size: (labels[gap.student][gap.recipe], labels[gap.student][gap.baseline])
                for size, _, summary in students
                for gap in values
                if gap.student == summary.case_label
            }
            if len(suites) > 1:
                sentences.append(f"{family}, {name}: {_crossing_in_words(crossing(suites))}.")
    return " ".join(sentences)


def _crossing_in_words(found: Crossing) -> str:
    if found.size is None:
        chance = f" ({100 * found.share:.0f} % of resamples do)" if found.share else ""
        return f"{'above' if found.rises else 'below'} 0 at every size, no crossing{chance}"
    words = f"{'above' if found.rises else 'below'} 0 from {in_words(found.size)} parameters on"
    return f"{words} [{in_words(found.low)}, {in_words(found.high)}], in {100 * found.share:.0f} % of resamples"


def about(gap: Gap, case: int) -> dict[str, object]:
    """Return the number that a point shows; a click on it opens the lineage of the scores of ``gap.recipe``."""
    shown = {"about": f"average minus {gap.baseline}", "shown": verdict(gap.difference)}
    return {"case": case, "model": gap.recipe, "measure": "average", **shown}


def _row(summary: Summary, name: str) -> Row | None:
    return next((row for row in summary.recipes if row.name == name), None)


def _lines(families: Mapping[str, Sized]) -> Iterator[tuple[str, Sized, dict[str, object]]]:
    """Yield each recipe of each family, its students, and the look of its line."""
    every = [summary for students in families.values() for _, _, summary in students]
    names = list(dict.fromkeys(name for one in every for name in [*_names(one), *one.bits_per_byte]))
    colours = recipe_colours(names)
    for (family, students), symbol in zip(families.items(), cycle(SYMBOLS), strict=False):
        for name in names:
            label = name if len(families) == 1 else f"{family}, {name}"
            yield (
                name,
                students,
                {
                    "mode": "lines+markers",
                    "marker": {"size": 9, "color": colours[name], "symbol": symbol},
                    "line": REFERENCE if name == BASE else {"color": colours[name], "width": 2},
                    "name": label,
                    "hovertemplate": "%{text}<extra></extra>",
                    "showlegend": True,
                },
            )


def _names(summary: Summary) -> list[str]:
    return [row.name for row in summary.recipes]


def _over_size(figure: go.Figure, families: Mapping[str, Sized]) -> go.Figure:
    ticks = sorted({size for students in families.values() for size, _, _ in students})
    words = [in_words(size) for size in ticks]
    figure.update_xaxes(title="parameters of the student", type="log", tickvals=ticks, ticktext=words)
    return styled(figure, height=440, legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"})
