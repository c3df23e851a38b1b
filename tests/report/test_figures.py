"""The figures show the numbers of the summary, each recipe in its colour, and nothing that fixes the page's
theme."""

import json
from dataclasses import replace

import plotly.graph_objects as go
import pytest

from micota.analysis.learnability import Trial
from micota.analysis.statistics import Difference, Estimate
from micota.records import TokenShift
from micota.report.collect import Summary
from micota.report.data_figures import gain_figure, gain_in_words, shift_figure
from micota.report.figures import accuracy_figure, captions, figures, length_figure, merge_figure
from micota.report.rows import Row
from micota.report.style import COLOURS, LABEL_SHARE, SPARE, emptier_side, recipe_colours, with_space

BENCHMARKS = ["easy", "hard"]
BITS = {"strong": 0.6, "half_size": 0.5, "micota": 0.4, "short": 0.2}


def row(name: str, share: float, tokens: list[int], bits: float | None = None, truncated: int = 0) -> Row:
    around = Estimate(share, share - 0.03, share + 0.02)
    return Row(
        name=name,
        by_benchmark={"easy": Estimate(share + 0.1, share, share + 0.15), "hard": Estimate(share - 0.1, 0.1, share)},
        average=around,
        seed_sd=None,
        num_tokens=sum(tokens) / len(tokens),
        tokens={"correct": tokens, "truncated": [280] * truncated},
        bits_per_byte=bits,
        data_tokens=None,
        difference=None if name == "instruct" else Difference(0.1, 0.05, 0.15, 0.001, 0.025),
        discordance={},
    )


def summary(recipes: list[Row]) -> Summary:
    return Summary(
        name="tiny",
        student="tiny_student",
        seeds=[0],
        benchmarks=BENCHMARKS,
        recipes=recipes,
        curve={1.0: row("1", 0.7, [150]), 0.0: row("0", 0.8, [40]), 0.5: row("0.5", 0.85, [90])},
        teacher=row("teacher", 0.9, [160]),
    )


@pytest.fixture
def compared() -> Summary:
    return summary(
        [
            row("instruct", 0.58, [30, 36, 42]),
            row("strong", 0.23, [100, 150, 280], bits=0.62, truncated=3),
            row("micota", 0.79, [80, 91, 95], bits=0.41),
            row("my_recipe", 0.60, [50, 60, 70], bits=0.40),
        ]
    )


def colours_of(figure: go.Figure) -> set[str]:
    return {trace.marker.color for trace in figure.data if isinstance(trace.marker.color, str)}


def test_a_recipe_keeps_its_colour(compared: Summary) -> None:
    colours = recipe_colours([recipe.name for recipe in compared.recipes])
    assert colours == {name: COLOURS.get(name, SPARE[0]) for name in ("instruct", "strong", "micota", "my_recipe")}
    assert len({*COLOURS.values(), *SPARE}) == len(COLOURS) + len(SPARE)
    for figure in (accuracy_figure(compared), length_figure(compared)):
        assert set(colours.values()) <= colours_of(figure)
    assert colours_of(gain_figure(compared)) == set(colours.values()) - {colours["instruct"]}


def test_palette_reads_on_white_and_on_black() -> None:
    for colour in (*COLOURS.values(), *SPARE):
        channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (luminance + 0.05) >= 3, colour
        assert (luminance + 0.05) / 0.05 >= 3, colour


def test_accuracy_has_a_point_for_every_measure(compared: Summary) -> None:
    figure = accuracy_figure(compared)
    points = [trace for trace in figure.data if trace.x[0] is not None]
    legend = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert legend == ["average", *BENCHMARKS]
    assert len(points) == len(compared.recipes) * len(legend)
    average = points[0]
    assert average.x[0] == pytest.approx(58)
    assert (average.error_x.array[0], average.error_x.arrayminus[0]) == pytest.approx((2, 3))
    assert any(shape.x0 == pytest.approx(58) and shape.line.dash == "dash" for shape in figure.layout.shapes)


def test_published_numbers_are_strokes_beside_ours(compared: Summary) -> None:
    published = {"strong": {"average": 20.0, BENCHMARKS[0]: 99.0}, "teacher": {"average": 70.0}}
    figure = accuracy_figure(replace(compared, published=published))
    strokes = [trace for trace in figure.data if trace.legendgroup == "published"]
    assert [trace.x[0] for trace in strokes] == [20.0, 99.0, None] and strokes[-1].name == "published"
    traces = [
        trace for trace in figure.data if trace.hovertemplate and trace.hovertemplate.startswith("strong, average: 2")
    ]
    assert {trace.y[0] for trace in traces} == {strokes[0].y[0]} and len(traces) == 2
    assert figure.layout.xaxis.range[1] > 99
    assert (
        captions(compared)["accuracy"][1] + " Grey strokes are published."
        == (captions(replace(compared, published=published))["accuracy"][1])
    )


def test_lengths_show_quantiles_mean_and_truncation(compared: Summary) -> None:
    figure = length_figure(compared)
    boxes = [trace for trace in figure.data if trace.type == "box"]
    bars = [trace for trace in figure.data if trace.type == "bar"]
    names = ["instruct, correct", "strong, correct", "strong, other", "micota, correct", "my_recipe, correct"]
    assert [box.name for box in boxes] == names
    assert [box.median[0] for box in boxes] == [36, 150, 280, 91, 60]
    assert [bar.x[0] for bar in bars] == pytest.approx([0, 50, 0, 0])
    assert list(figure.layout.yaxis.ticktext) == ["instruct", "strong", "<b>micota</b>", "my_recipe"]


def test_merge_curve_is_sorted_by_weight(compared: Summary) -> None:
    accuracy, tokens = merge_figure(compared).data
    assert list(accuracy.x) == list(tokens.x) == [0.0, 0.5, 1.0]
    assert list(accuracy.y) == pytest.approx([80, 85, 70])
    assert list(tokens.y) == [40, 90, 150]
    assert accuracy.yaxis != tokens.yaxis


def test_gain_is_the_paired_difference(compared: Summary) -> None:
    figure = gain_figure(compared)
    assert [trace.y[0] for trace in figure.data] == pytest.approx([10, 10, 10])
    alone = summary([recipe for recipe in compared.recipes if recipe.name != "instruct"])
    bare = replace(alone, recipes=[replace(recipe, difference=None) for recipe in alone.recipes])
    assert [trace.y[0] for trace in gain_figure(bare).data] == pytest.approx([23, 79, 60])


def test_a_sentence_states_the_correlation_of_bpc_with_gain(compared: Summary) -> None:
    trials = [Trial(recipe=name, seed=0, known={"bits_per_byte": bits}, gain=-bits) for name, bits in BITS.items()]
    assert gain_in_words(replace(compared, trials=trials[:2])) == ""
    sentence = gain_in_words(replace(compared, trials=trials))
    assert sentence.startswith("Spearman's correlation over recipes: -1.00 [") and "4 recipes only" in sentence
    assert captions(replace(compared, trials=trials))["bpc"][1].endswith(sentence)


def shifted(token: int, text: str, ranks: list[int]) -> TokenShift:
    return TokenShift(
        token_id=token,
        text=text,
        count=len(ranks),
        num_unshifted=sum(rank == 0 for rank in ranks),
        num_marginal=sum(0 < rank < 3 for rank in ranks),
        num_shifted=sum(rank > 2 for rank in ranks),
        mean_rank=sum(ranks) / len(ranks),
        max_rank=max(ranks),
    )


def test_shifts_are_side_by_side_for_all_recipes(compared: Summary) -> None:
    shifts = {
        "strong": [shifted(1, "Wait", [0, 9, 9, 9, 9]), shifted(2, "so", [1, 0, 0, 0, 0]), shifted(3, "5", [0] * 9)],
        "micota": [shifted(2, "so", [3, 3, 0, 0, 0]), shifted(4, "\n", [7, 0, 0, 0, 0])],
    }
    mean, share = shift_figure(replace(compared, token_shifts=shifts)).data
    assert list(mean.x) == ["strong", "<b>micota</b>"]
    assert list(mean.y) == ["'so'", "'\\n' (4)", "'Wait'"]  # by the larger of the two recipes, the most shifted on top
    assert [list(line) for line in mean.z] == [[0.2, 1.2], [None, 1.4], [7.2, None]]
    assert share.z[list(share.y).index("'Wait'")][0] == 80
    assert mean.customdata[2][1] == "never used"


def test_bpc_labels_every_trained_recipe(compared: Summary) -> None:
    figure = gain_figure(compared)
    assert [trace.text[0] for trace in figure.data] == ["strong", "<b>micota</b>", "my_recipe"]
    assert [trace.x[0] for trace in figure.data] == [0.62, 0.41, 0.40]
    assert (
        figure.data[1].textposition != figure.data[2].textposition or abs(figure.data[1].y[0] - figure.data[2].y[0]) > 9
    )


def test_labels_at_the_ends_of_an_axis_have_space_on_a_phone() -> None:
    low, high = with_space([0.3, 0.5, 0.7], ["middle left", "middle right", "top right"])
    assert low == pytest.approx(0.3 - LABEL_SHARE * 0.4) and high == pytest.approx(0.7 + LABEL_SHARE * 0.4)
    assert with_space([0.3, 0.7], ["middle right", "middle left"]) == pytest.approx([0.26, 0.74])
    assert with_space([0.4], ["middle right"])[1] > 0.4
    assert emptier_side([(0.3, 5), (0.7, 0.1)], 0) == "left" and emptier_side([(0.3, 0.1), (0.7, -5)], 0) == "right"


@pytest.mark.parametrize("name", ["instruct", "micota"])
def test_one_recipe_is_enough(name: str) -> None:
    alone = summary([row(name, 0.5, [0, 10], bits=None if name == "instruct" else 0.4)])
    assert list(figures(alone)) == ["accuracy", "lengths", "merge", *([] if name == "instruct" else ["bpc"])]


def test_figures_leave_background_and_text_colour_to_the_page(compared: Summary) -> None:
    for name, figure in figures(compared).items():
        layout = json.loads(figure.to_json())["layout"]
        assert layout["paper_bgcolor"] == layout["plot_bgcolor"] == "rgba(0,0,0,0)", name
        assert "color" not in layout["font"], name
        assert not any(
            "color" in axis.get("title", {}).get("font", {}) for axis in layout.values() if isinstance(axis, dict)
        )


def test_curves_over_the_token_budget_name_their_crossings() -> None:
    curves = {"instruct": [0.3, 0.5, 0.58], "micota": [0.1, 0.4, 0.79], "strong": [0.0, 0.1, 0.23]}
    recipes = [
        replace(
            row(name, values[-1], [30]),
            by_budget={"average": dict(zip((64, 128, 256), (Estimate(v, v / 2, v) for v in values), strict=True))},
        )
        for name, values in curves.items()
    ]
    made = figures(summary(recipes))["budget"]
    assert [trace.name for trace in made.data] == list(curves) and list(made.data[1].x) == [64, 128, 256]
    assert made.data[1].y[2] == pytest.approx(79)
    text = captions(summary(recipes))["budget"][1]
    assert "Micota is above it from 160 tokens on." in text and "strong" not in text.lower()
