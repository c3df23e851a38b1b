"""Figures of data and students: BPC of the data, gain in accuracy, mixtures, token shifts."""

from __future__ import annotations

from itertools import cycle

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from micota.analysis.intervals import Estimate
from micota.analysis.learnability import MIN_RECIPES, correlation
from micota.analysis.shifts import MEASURES, most_shifted
from micota.records import TokenShift
from micota.report.collect import BASELINE, Summary
from micota.report.style import (
    COLOURS,
    FONT_SIZE,
    METHOD,
    REFERENCE,
    SPARE,
    baseline_of,
    emptier_side,
    error_bars,
    label_of,
    label_positions,
    number,
    recipe_colours,
    styled,
    with_space,
)
from micota.report.table import interval

NUM_TOKENS = 16  # shown by each measure


def gain_figure(summary: Summary) -> go.Figure:
    """Plot the BPC of each recipe's data under the student before SFT against its gain on that student, in points.

    If the student before SFT is not one of the recipes, plot the accuracy instead of the gain.
    """
    figure = go.Figure()
    has_gain = any(recipe.difference is not None for recipe in summary.recipes)
    points: list[tuple[str, float, Estimate, Estimate]] = []
    for recipe in summary.recipes:
        shown = recipe.difference if has_gain else recipe.average
        if recipe.bits_per_byte is not None and shown is not None:
            points.append((recipe.name, recipe.bits_per_byte, shown, recipe.average))
    colours = recipe_colours([recipe.name for recipe in summary.recipes])
    positions = label_positions([(bpc, 100 * shown.value) for _, bpc, shown, _ in points], 0.0 if has_gain else None)
    unit = "points" if has_gain else "%"
    for (name, bpc, shown, average), position in zip(points, positions, strict=True):
        figure.add_scatter(
            x=[bpc],
            y=[100 * shown.value],
            error_y=error_bars([shown], 1.5),
            mode="markers+text",
            marker={"size": 12 if name == METHOD else 10, "color": colours[name]},
            text=[label_of(name)],
            textposition=position,
            cliponaxis=False,
            showlegend=False,
            customdata=[number(name, "average", average)],
            hovertemplate=f"{name}: {bpc:.3f} bits per byte, {interval(shown)} {unit}<extra></extra>",
        )
    if has_gain:
        places = [(bpc, 100 * shown.value) for _, bpc, shown, _ in points]
        side = emptier_side(places, 0.0)
        label = {"text": BASELINE, "xanchor": side, "yanchor": "bottom"}
        figure.add_hline(y=0, line=REFERENCE, annotation=label, annotation_position=f"top {side}")
    limits = with_space([bpc for _, bpc, _, _ in points], positions)
    figure.update_xaxes(title="BPC of the training data (bits per byte)", range=limits)
    figure.update_yaxes(title="gain on the student before SFT (points)" if has_gain else "average accuracy (%)")
    return styled(figure, height=460)


def gain_in_words(summary: Summary) -> str:
    """Return the correlation of BPC with the gain over recipes as a sentence; empty if there are too few recipes."""
    if len({trial.recipe for trial in summary.trials}) < MIN_RECIPES:
        return ""
    result = correlation(summary.trials, "bits_per_byte")
    size = f"{result.value:+.2f} [{result.low:+.2f}, {result.high:+.2f}], p = {result.p_value:.2f}"
    return f"Spearman's correlation over recipes: {size}" + (f" ({result.caveat})." if result.caveat else ".")


def mix_figure(summary: Summary) -> go.Figure:
    """Plot accuracy over the share of one part of the training data, one line per pair of parts."""
    figure = go.Figure()
    rows = {recipe.name: recipe for recipe in summary.recipes}
    for (part, curve), colour in zip(summary.mixes.items(), cycle((COLOURS["strong"], *SPARE)), strict=False):
        recipes = sorted((name for name in curve if name in rows), key=lambda name: curve[name])
        estimates = [rows[name].average for name in recipes]
        figure.add_scatter(
            x=[100 * curve[name] for name in recipes],
            y=[100 * estimate.value for estimate in estimates],
            error_y=error_bars(estimates, 1.5),
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"size": 9, "color": colour},
            name=f"share of {part}",
            showlegend=True,
            customdata=[number(name, "average", rows[name].average) for name in recipes],
            hovertemplate="%{customdata.model}, %{x:.0f} %: %{customdata.shown}<extra></extra>",
        )
    baseline = baseline_of(summary)
    if baseline is not None:
        label = {"text": BASELINE, "xanchor": "right", "yanchor": "bottom"}
        figure.add_hline(y=baseline, line=REFERENCE, annotation=label)
    figure.update_xaxes(title="share of the training data (%)", range=[-4, 104])
    figure.update_yaxes(title="average accuracy (%)")
    legend = {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"}
    return styled(figure, height=460, legend=legend)


def shift_figure(summary: Summary) -> go.Figure:
    """Plot the most shifted tokens (rows) by recipe (columns) as two maps: mean shift, and share of shifted uses."""
    recipes = list(summary.token_shifts)
    by_id = {recipe: {row.token_id: row for row in rows} for recipe, rows in summary.token_shifts.items()}
    titles = ("mean shift (ranks)", "shifted uses (%)")
    figure = make_subplots(rows=1, cols=2, shared_yaxes=False, subplot_titles=titles, horizontal_spacing=0.3)
    figure.update_annotations(font={"size": FONT_SIZE})
    longest = 1
    for column, (measure, scale) in enumerate(zip(MEASURES, (1, 100), strict=True), start=1):
        chosen: dict[int, TokenShift] = {}
        for rows in summary.token_shifts.values():
            chosen |= {row.token_id: row for row in most_shifted(rows, measure, limit=NUM_TOKENS)}
        largest = {
            token: max(getattr(uses[token], measure) for uses in by_id.values() if token in uses) for token in chosen
        }
        tokens = sorted(chosen, key=lambda token: largest[token])[-NUM_TOKENS:]
        longest = max(longest, len(tokens))
        uses = [[by_id[recipe].get(token) for recipe in recipes] for token in tokens]
        figure.add_heatmap(
            x=[label_of(recipe) for recipe in recipes],
            y=[_visible(chosen[token].text, token) for token in tokens],
            z=[[None if use is None else scale * getattr(use, measure) for use in line] for line in uses],
            customdata=[[_in_words(use) for use in line] for line in uses],
            hovertemplate="%{y} by %{x}: %{customdata}<extra></extra>",
            coloraxis=f"coloraxis{column}",
            xgap=1,
            ygap=1,
            row=1,
            col=column,
        )
    figure.update_xaxes(tickangle=-60, showgrid=False)
    figure.update_yaxes(type="category", showgrid=False)  # a category, or the token '8' would be a number
    bars = {"orientation": "h", "thickness": 10, "len": 0.36, "y": -0.02, "yanchor": "top", "outlinewidth": 0}
    axes = {
        f"coloraxis{column}": {"colorscale": "Viridis", "cmin": 0, "colorbar": {**bars, "x": x, "ypad": 46}}
        for column, x in ((1, 0.2), (2, 0.8))
    }
    return styled(figure, height=220 + 20 * longest, **axes)


def _visible(text: str, token: int) -> str:
    """Return a token as a label: quoted, so that spaces and line breaks are visible; blanks also get their id."""
    return repr(text) if text.strip() else f"{text!r} ({token})"


def _in_words(use: TokenShift | None) -> str:
    if use is None:
        return "never used"
    ranks = f"mean rank {use.mean_rank:.1f}, highest {use.max_rank}"
    return f"{use.count} uses, {100 * use.share_shifted:.0f} % shifted, {ranks}"
