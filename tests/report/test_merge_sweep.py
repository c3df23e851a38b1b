"""The figure of a merge sweep shows means over seeds, their spread, and the TA before and after SFT."""

from micota.records import MergePoint
from micota.report.merge_sweep import most_accurate, sweep_figures, sweep_page


def point(form: str, density: float | None, weight: float | None, seed: int, correct: int, tokens: float) -> MergePoint:
    return MergePoint(
        form=form,
        density=density,
        weight=weight,
        seed=seed,
        num_problems=10,
        num_correct=correct,
        num_truncated=0,
        num_tokens=tokens,
        merge_seconds=0.1,
        answer_seconds=1.0,
    )


POINTS = [
    point("before", None, None, 0, 9, 40.0),
    point("after", None, None, 0, 8, 160.0),
    point("merged", 0.3, 0.5, 0, 6, 80.0),
    point("merged", 0.3, 0.5, 1, 9, 100.0),
    point("merged", 0.3, 0.2, 0, 10, 60.0),
    point("merged", 0.3, 0.2, 1, 10, 62.0),
    point("merged", 0.7, 0.5, 0, 7, 90.0),
]


def test_curves_are_means_over_seeds_with_their_spread() -> None:
    by_weight, by_density, _ = sweep_figures(POINTS)
    accuracy, tokens = (trace for trace in by_weight.data if trace.name == "density 0.3")
    assert list(accuracy.x) == [0.2, 0.5] and list(accuracy.y) == [100.0, 75.0]
    assert list(accuracy.error_y.array) == [0.0, 15.0] and list(accuracy.error_y.arrayminus) == [0.0, 15.0]
    assert list(tokens.y) == [61.0, 90.0]
    over_density = [trace for trace in by_density.data if trace.name == "weight 0.5"]
    assert list(over_density[1].x) == [0.3, 0.7] and list(over_density[1].y) == [90.0, 90.0]


def test_the_unmerged_ta_is_a_line_in_every_plot() -> None:
    for figure in sweep_figures(POINTS)[:2]:
        assert sorted(shape.y0 for shape in figure.layout.shapes) == [40.0, 80.0, 90.0, 160.0]


def test_the_surface_has_the_mean_of_each_point_and_leaves_the_unmeasured_empty() -> None:
    *_, surface = sweep_figures(POINTS)
    accuracy, tokens = surface.data
    assert list(accuracy.x) == ["0.2", "0.5"] and list(accuracy.y) == ["0.3", "0.7"]
    assert [list(row) for row in accuracy.z] == [[100.0, 75.0], [None, 70.0]]
    assert [list(row) for row in tokens.z] == [[61.0, 90.0], [None, 90.0]]


def test_one_density_has_one_figure_and_the_page_loads_nothing() -> None:
    page = sweep_page("a title", [p for p in POINTS if p.density != 0.7])
    assert "a title" in page and "<script src" not in page and "merge density" not in page
    assert "default-src 'none'" in page and "--paper:" in page, "the policy and the style of the report"


def test_the_page_names_the_most_accurate_merge_and_what_writes_it() -> None:
    assert most_accurate(POINTS) == (0.3, 0.2, 1.0, 61.0)
    equal = [*POINTS, point("merged", 0.7, 0.3, 0, 10, 55.0)]
    assert most_accurate(equal) == (0.7, 0.3, 1.0, 55.0)
    page = sweep_page("a title", POINTS, "python merge.py merge.density=0.3 merge.weight=0.2")
    assert "density 0.3, weight 0.2 (100.0 %, 61 tokens)" in page
    assert "<code>python merge.py merge.density=0.3 merge.weight=0.2</code>" in page
