"""The figures of a case, from its summary alone."""

from __future__ import annotations

import math
from itertools import chain, cycle

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from micota.analysis.metrics import crossings
from micota.report.collect import BASELINE, Summary
from micota.report.data_figures import gain_figure, gain_in_words, mix_figure, shift_figure
from micota.report.forecast_figure import forecast_figure
from micota.report.merge_sweep import sweep_figures
from micota.report.rows import MERGED_TITLE, Row, ta_title
from micota.report.style import (
    FONT_SIZE,
    NEUTRAL,
    REFERENCE,
    SYMBOLS,
    TA_COLOUR,
    baseline_of,
    by_recipe,
    error_bars,
    number,
    published_mark,
    recipe_colours,
    styled,
)
from micota.report.table import interval
from micota.report.ways import ways_figure

PUBLISHED = "published"
HORIZONTAL = {"orientation": "h", "showlegend": False}
CAPTIONS = {
    "ways": (
        "Accuracy against cost",
        "Average accuracy with 95 % interval against floating-point operations, on a logarithmic axis. Open circle: "
        "the training of the student, with its teacher and with answers that it samples. Filled circle: with all that "
        "was made before, as the answers of generators and the TA. The dashed line is the student before SFT.",
    ),
    "accuracy": (
        "Accuracy by recipe",
        "The filled circle is the unweighted average over benchmarks, open symbols are the single benchmarks; bars are "
        "95 % intervals over problems. The dashed line is the student before SFT. Click an entry of the legend to hide "
        "it. Click a symbol to see how its number was made.",
    ),
    "forecast": (
        "Forecast and outcome",
        "Open: the gain that was expected of each recipe, with the interval that should hold it in 95 % of cases. "
        "Filled: the gain of the trained student.",
    ),
    "lengths": (
        "Length of answers",
        "Boxes span the middle half of the answers, the line in a box is the median, whiskers reach from the 5th to "
        "the 95th percentile. Filled boxes are correct answers, open boxes all others. Diamonds are means of all "
        "answers. The axis is logarithmic. Right: share of completions that reached the token limit without an answer.",
    ),
    "budget": (
        "Accuracy against token budget",
        "Average accuracy with 95 % interval if stored answers are cut after so many tokens. A cut answer counts where "
        "it declares a right result before the cut. The axis is logarithmic. Dashed: the student before SFT.",
    ),
    "merge": (
        "The teacher assistant (TA) by merge weight",
        "Average accuracy with 95 % interval, and mean length of an answer, over the merge weight (0: before SFT, 1: "
        "after SFT).",
    ),
    "mix": (
        "Mixtures",
        "Average accuracy with 95 % interval over the share of long CoT, or of the large teacher, in the data. "
        "The recipes at 0 % and at 100 % have one part alone.",
    ),
    "bpc": (
        "Likelihood of the data and gain",
        "Bits per byte of each recipe's training data under the student before SFT (BPC; lower is more likely), "
        "against the student's gain from them, with 95 % interval of the paired difference.",
    ),
    "merge_sweep": (
        "Merges over weight",
        "Accuracy and length of merges evaluated in memory: means over the seeds of the masks, bars from the lowest to "
        "the highest seed. Dashed lines are the TA before and after SFT.",
    ),
    "sweep_density": ("Merges over density", "The same merges over density, one line per weight."),
    "sweep_surface": (
        "Merges over density and weight",
        "The same merges by density and weight: means over the seeds of the masks.",
    ),
    "shifts": (
        "Most shifted tokens",
        "Tokens that the tuned students use although others are more likely there under the student before SFT. A use "
        "is shifted if the token is the fourth most likely or lower there. Tokens with fewer than 5 uses are left out.",
    ),
}


def figures(summary: Summary) -> dict[str, go.Figure]:
    """Return all figures by name, in the order of ``CAPTIONS``, without those that have no data."""
    by_name: dict[str, go.Figure] = {"ways": ways_figure(summary)} if summary.spent else {}
    if summary.recipes:
        by_name |= {"accuracy": accuracy_figure(summary), "lengths": length_figure(summary)}
    if summary.forecasts and summary.recipes:
        by_name["forecast"] = forecast_figure(summary)
    if any(recipe.by_budget.get("average") for recipe in summary.recipes):
        by_name["budget"] = budget_figure(summary)
    if summary.curve:
        by_name["merge"] = merge_figure(summary)
    if summary.mixes and summary.recipes:
        by_name["mix"] = mix_figure(summary)
    # The gain is the difference to the student before SFT.
    if summary.baseline == BASELINE and any(recipe.bits_per_byte is not None for recipe in summary.recipes):
        by_name["bpc"] = gain_figure(summary)
    if summary.points:
        by_name |= zip(("merge_sweep", "sweep_density", "sweep_surface"), sweep_figures(summary.points), strict=False)
    if any(summary.token_shifts.values()):
        by_name["shifts"] = shift_figure(summary)
    return by_name


def captions(summary: Summary) -> dict[str, tuple[str, str]]:
    """Return title and text of each figure, with remarks on this case."""
    remarks = {"bpc": gain_in_words(summary), "accuracy": "Grey strokes are published." if summary.published else ""}
    remarks["budget"] = crossings_in_words(summary)
    return {name: (title, f"{text} {remarks.get(name, '')}".rstrip()) for name, (title, text) in CAPTIONS.items()}


def accuracy_figure(summary: Summary) -> go.Figure:
    """Plot for each recipe the average accuracy and that of each benchmark, with 95 % intervals."""
    figure = go.Figure()
    symbols = dict(zip(["average", *summary.benchmarks], chain(["circle"], cycle(SYMBOLS)), strict=False))
    for measure, symbol in symbols.items():
        marker = {"symbol": symbol, "color": NEUTRAL, "size": 11 if measure == "average" else 8}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=measure, legendgroup=measure)
    colours = recipe_colours([recipe.name for recipe in summary.recipes])
    top = max(
        estimate.high for recipe in summary.recipes for estimate in (recipe.average, *recipe.by_benchmark.values())
    )
    for index, recipe in enumerate(summary.recipes):
        estimates = {"average": recipe.average, **{bench: recipe.by_benchmark[bench] for bench in summary.benchmarks}}
        for position, (measure, estimate) in enumerate(estimates.items()):
            is_average = measure == "average"
            height = index - 0.33 + 0.66 * position / max(1, len(estimates) - 1)
            figure.add_scatter(
                x=[100 * estimate.value],
                y=[height],
                error_x=error_bars([estimate], 2.5 if is_average else 1),
                mode="markers",
                marker={"symbol": symbols[measure], "color": colours[recipe.name], "size": 11 if is_average else 8},
                legendgroup=measure,
                showlegend=False,
                customdata=[number(recipe.name, measure, estimate)],
                hovertemplate=f"{recipe.name}, {measure}: {interval(estimate)} %<extra></extra>",
            )
            published = summary.published.get(recipe.name, {}).get(measure)
            if published is not None:
                hover = f"{recipe.name}, {measure}: {published:g} % published<extra></extra>"
                mark = published_mark(14 if is_average else 10)
                stroke = {"x": [published], "y": [height], "marker": mark, "hovertemplate": hover}
                figure.add_scatter(**stroke, mode="markers", legendgroup=PUBLISHED, showlegend=False)
                top = max(top, published / 100)
    if summary.published:
        mark = published_mark(12)
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=mark, name=PUBLISHED, legendgroup=PUBLISHED)
    baseline = baseline_of(summary)
    if baseline is not None:
        figure.add_vline(x=baseline, line=REFERENCE)
    figure.update_xaxes(title="accuracy (%)", range=[0, min(102.0, 10 * math.ceil(10 * top + 0.3))])
    return by_recipe(figure, summary)


def length_figure(summary: Summary) -> go.Figure:
    """Plot for each recipe the distribution of tokens per answer, and the share of answers cut off at the limit."""
    figure = make_subplots(rows=1, cols=2, column_widths=[0.74, 0.26], shared_yaxes=True, horizontal_spacing=0.05)
    colours = recipe_colours([recipe.name for recipe in summary.recipes])
    for index, recipe in enumerate(summary.recipes):
        colour = colours[recipe.name]
        right = recipe.tokens.get("correct", [])
        wrong = [num for outcome, tokens in recipe.tokens.items() if outcome != "correct" for num in tokens]
        filled = {"marker": {"color": colour}}  # half transparent, so that the median is visible
        open_box = {"fillcolor": "rgba(0,0,0,0)", "line": {"color": colour}}
        for name, tokens, shift, look in (("correct", right, -0.17, filled), ("other", wrong, 0.17, open_box)):
            if tokens:
                box = {"y": [index + shift], "name": f"{recipe.name}, {name}", "width": 0.28, **_quantiles(tokens)}
                figure.add_box(**box, **look, **HORIZONTAL, row=1, col=1)
        mean = {"symbol": "diamond", "size": 9, "color": colour, "line": {"width": 1, "color": "white"}}
        hover = f"{recipe.name}: mean {recipe.num_tokens:.0f} tokens<extra></extra>"
        point = {"x": [recipe.num_tokens], "y": [index], "marker": mean, "hovertemplate": hover}
        figure.add_scatter(**point, mode="markers", showlegend=False, row=1, col=1)
        share = 100 * truncated_share(recipe)
        label = {"text": [f"{share:.1f}"], "textposition": "outside", "cliponaxis": False}
        bar = {"x": [share], "y": [index], "width": 0.5, "marker": {"color": colour}, **label}
        hover = f"{recipe.name}: {share:.1f} % truncated<extra></extra>"
        figure.add_bar(**bar, **HORIZONTAL, hovertemplate=hover, row=1, col=2)
    ticks = [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
    figure.update_xaxes(title="tokens per answer", type="log", tickvals=ticks, row=1, col=1)
    largest = max(100 * truncated_share(recipe) for recipe in summary.recipes)
    figure.update_xaxes(title="truncated (%)", range=[0, max(5, 1.5 * largest)], nticks=3, row=1, col=2)
    return by_recipe(figure, summary)


def budget_figure(summary: Summary) -> go.Figure:
    """Plot the average accuracy of each recipe over the token budget."""
    figure = go.Figure()
    colours = recipe_colours([recipe.name for recipe in summary.recipes])
    for recipe in summary.recipes:
        curve = recipe.by_budget.get("average", {})
        line = REFERENCE if recipe.name == BASELINE else {"color": colours[recipe.name], "width": 2}
        figure.add_scatter(
            x=list(curve),
            y=[100 * estimate.value for estimate in curve.values()],
            error_y=error_bars(list(curve.values()), 1),
            mode="lines+markers",
            line=line,
            marker={"size": 7, "color": line["color"]},
            name=recipe.name,
            customdata=[f"{budget} tokens: {interval(estimate)} %" for budget, estimate in curve.items()],
            hovertemplate=f"{recipe.name}, %{{customdata}}<extra></extra>",
        )
    budgets = sorted({budget for recipe in summary.recipes for budget in recipe.by_budget.get("average", {})})
    figure.update_xaxes(title="token budget", type="log", tickvals=budgets)
    figure.update_yaxes(title="average accuracy (%)")
    return styled(figure, height=400)


def crossings_in_words(summary: Summary) -> str:
    """Return where the curve of each recipe crosses that of the student before SFT."""
    curves = {
        recipe.name: {budget: estimate.value for budget, estimate in recipe.by_budget.get("average", {}).items()}
        for recipe in summary.recipes
    }
    base = curves.get(BASELINE, {})
    parts = [
        f"{name} is {'above' if above else 'below'} it from {budget:.0f} tokens on"
        for name, curve in curves.items()
        if name != BASELINE
        for budget, above in crossings(curve, base)
    ]
    return f"{'; '.join(parts)}.".capitalize() if parts else ""


def _quantiles(tokens: list[int]) -> dict[str, list[float]]:
    """Return the quantiles of a box. With all lengths instead, the figure would grow with problems and seeds."""
    names = ("lowerfence", "q1", "median", "q3", "upperfence")
    values = np.percentile(np.maximum(tokens, 1), [5, 25, 50, 75, 95])
    return {name: [float(value)] for name, value in zip(names, values, strict=True)}


def merge_figure(summary: Summary) -> go.Figure:
    """Plot the TA over merge weights, from before SFT (0) to after it (1): accuracy above, length below."""
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
        "hovertemplate": "weight %{x:g}: %{text}<extra></extra>",
    }
    figure.add_scatter(
        y=[100 * row.average.value for row in rows],
        error_y=error_bars([row.average for row in rows], 2),
        text=[f"{interval(row.average)} %" for row in rows],
        customdata=[number(ta_title(weight), "average", summary.curve[weight].average) for weight in weights],
        **style,
        row=1,
        col=1,
    )
    lengths = [row.num_tokens for row in rows]
    figure.add_scatter(y=lengths, text=[f"{length:.0f} tokens" for length in lengths], **style, row=2, col=1)
    if summary.merged is not None:  # it has no place on the axis of weights
        values = (100 * summary.merged.average.value, summary.merged.num_tokens)
        for position, value in enumerate(values, start=1):
            mark = {"annotation_text": MERGED_TITLE, "annotation_position": "top left"}
            figure.add_hline(y=value, line=REFERENCE, **mark, row=position, col=1)
    figure.update_yaxes(rangemode="tozero", row=2, col=1)
    figure.update_xaxes(range=[-0.04, 1.04], tickvals=weights)
    figure.update_xaxes(title="merge weight (0: before SFT, 1: after SFT)", row=2, col=1)
    return styled(figure, height=460)


def truncated_share(recipe: Row) -> float:
    """Return the share of completions that reached the token limit without an answer."""
    return recipe.outcomes.get("truncated", 0) / sum(recipe.outcomes.values())
