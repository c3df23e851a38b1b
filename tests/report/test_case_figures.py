"""Figures over cases: the papers' gaps, paired, for every student that has both recipes."""

from dataclasses import replace

import pytest
from synthetic_store import score

from micota.analysis.statistics import paired_difference
from micota.artifacts.store import Store
from micota.report.case_figures import case_captions, case_figures, case_gap_differences, case_gaps, published_gap
from micota.report.collect import CaseReport, Summary
from micota.report.rows import Row, row
from micota.report.sizes import family_of, in_words, size_of


def recipe(name: str, right: int) -> Row:
    return row(name, [{"a": [score(f"p{index}", 0, index < right) for index in range(20)]}])


def case(student: str, **right: int) -> Summary:
    return Summary(
        name="gaps",
        student=student,
        labels={"student": student},
        seeds=[0],
        benchmarks=["a"],
        recipes=[recipe(name, count) for name, count in right.items()],
        curve={},
        teacher=None,
    )


def test_long_and_short_are_compared_where_they_are() -> None:
    cases = [case("small", instruct=8, strong=4, short=12), case("large", instruct=8, strong=16, short=10)]
    by_name = case_gaps([*cases, case("other", instruct=3)])
    assert list(by_name) == ["strong minus short"]
    assert [(gap.student, gap.difference.value) for gap in by_name["strong minus short"]] == [
        ("small", pytest.approx(-0.4)),
        ("large", pytest.approx(0.3)),
    ]
    small = {recipe.name: recipe.means for recipe in cases[0].recipes}
    alone = paired_difference(small["strong"], small["short"])
    assert by_name["strong minus short"][0].difference.low < alone.low  # corrected for two students


def test_without_such_a_pair_recipes_are_compared_with_the_student_before_sft() -> None:
    cases = [case("small", instruct=8, strong=4, micota=12), case("large", instruct=8, strong=16)]
    assert {name: len(gaps) for name, gaps in case_gaps(cases).items()} == {
        "strong minus instruct": 2,
        "micota minus instruct": 1,
    }


def test_the_figure_has_cases_from_top_to_bottom() -> None:
    cases = [case("small", strong=4, short=12), case("large", strong=16, short=10)]
    [figure] = case_figures(cases).values()
    [gap] = figure.data
    assert list(gap.x) == pytest.approx([-40, 30])
    assert list(figure.layout.yaxis.ticktext) == ["small", "large"]
    assert case_figures(cases[:1]) == {}
    assert gap.customdata[1]["case"] == 1 and gap.customdata[1]["model"] == "strong"
    assert gap.customdata[1]["about"] == "average minus short" and gap.customdata[1]["shown"].startswith("+30.0 [")


def test_published_gaps_stand_beside_ours() -> None:
    averages = {"strong": {"average": 20.0}, "short": {"average": 35.0}}
    cases = [
        replace(case("small", strong=4, short=12), published=averages),
        replace(case("large", strong=16, short=10), published={"strong": {"average": 50.0}}),
    ]
    [figure] = case_figures(cases).values()
    assert [trace.name for trace in figure.data] == ["strong minus short", "published"]
    assert list(figure.data[1].x) == [-15.0] and list(figure.data[1].y) == [0]
    gap_alone = replace(cases[0], published={"strong": {"gap_to_instruct": -7.0}})
    assert published_gap(gap_alone, "strong", "instruct") == -7.0
    assert published_gap(gap_alone, "strong", "short") is None


def test_cases_without_scores_have_no_gaps(finished: tuple[Store, CaseReport]) -> None:
    assert case_figures([case("small"), case("large")]) == {}


def test_gaps_over_the_size_of_the_student_by_family() -> None:
    cases = [
        replace(case("a", strong=4, short=12), student_path="Qwen/Qwen2.5-0.5B-Instruct"),
        replace(case("b", strong=16, short=10), student_path="Qwen/Qwen2.5-7B-Instruct"),
        replace(
            case("c", strong=8, short=9),
            student_path="meta-llama/Llama-3.2-1B-Instruct",
            published={"strong": {"average": 15.8}, "short": {"average": 19.5}},
        ),
        replace(case("d", strong=8, short=9), student_path="Qwen/Qwen2.5-7B"),
    ]
    figure = case_figures(cases)["gap_by_size"]
    lines = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data if trace.showlegend}
    assert lines["Qwen-Instruct, strong minus short"] == ([0.5, 7.0], pytest.approx([-40, 30]))
    assert lines["Llama-Instruct, strong minus short"][0] == [1.0]
    [printed] = [trace for trace in figure.data if trace.showlegend is False and len(trace.x)]
    assert list(printed.x) == [1.0] and list(printed.y) == pytest.approx([-3.7])
    pairs = [(found.first, found.second) for found in case_gap_differences(cases)]
    assert pairs == [("b", "d"), ("a", "b")], "one size in two families, smallest and largest of a family"


@pytest.mark.parametrize(
    ("path", "size", "family"),
    [
        ("Qwen/Qwen2.5-3B-Instruct", 3.0, "Qwen-Instruct"),
        ("Qwen/Qwen2.5-Math-1.5B-Instruct", 1.5, "Qwen-Math-Instruct"),
        ("meta-llama/Llama-3.3-70B-Instruct", 70.0, "Llama-Instruct"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 0.135, "SmolLM-Instruct"),
        ("bundled:student", None, "student"),
        ("bundled:qwen-33k", 33e-6, "qwen"),
    ],
)
def test_size_and_family_of_a_path(path: str, size: float | None, family: str) -> None:
    assert (size_of(path), family_of(path)) == (size, family)


def test_sizes_in_words() -> None:
    assert [in_words(size) for size in (33e-6, 0.000387, 0.135, 1.5, 70)] == ["33k", "387k", "135M", "1.5B", "70B"]


def test_accuracy_and_bpc_by_size_have_a_line_for_each_recipe() -> None:
    cases = [
        replace(case("a", instruct=8, short=12), student_path="bundled:qwen-33k", bits_per_byte={"short": 0.2}),
        replace(case("b", instruct=9, short=10), student_path="bundled:qwen-111k", bits_per_byte={"short": 0.1}),
    ]
    by_name = case_figures(cases)
    accuracy = {trace.name: (list(trace.x), list(trace.y)) for trace in by_name["accuracy_by_size"].data}
    assert accuracy == {
        "instruct": ([33e-6, 111e-6], pytest.approx([40, 45])),
        "short": ([33e-6, 111e-6], pytest.approx([60, 50])),
    }
    [bpc] = by_name["bpc_by_size"].data
    assert bpc.name == "short" and list(bpc.y) == [0.2, 0.1]
    assert list(by_name["bpc_by_size"].layout.xaxis.ticktext) == ["33k", "111k"]


def test_the_caption_says_where_a_gap_crosses_zero() -> None:
    cases = [
        replace(case("a", strong=4, short=12), student_path="bundled:qwen-33k"),
        replace(case("b", strong=16, short=10), student_path="bundled:qwen-111k"),
    ]
    assert "qwen, strong minus short: above 0 from 66" in case_captions(cases)["gap_by_size"][1]
    assert (
        "no crossing"
        in case_captions([cases[0], replace(cases[0], student_path="bundled:qwen-111k")])["gap_by_size"][1]
    )
