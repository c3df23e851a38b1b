from __future__ import annotations

from dataclasses import replace

import pytest

from micota.config import SelectConfig
from micota.config.rankings import RANKINGS
from micota.data.mixtures import best_candidates, choose, match, mixture
from micota.errors import ArtifactError
from micota.records import Example, ExampleScore

PROBLEMS = SelectConfig(filters=[], match="problems")
TOKENS = SelectConfig(filters=[], match="tokens")
ARMS = {"long": {"long": 1.0}, "short": {"short": 1.0}, "mix": {"long": 0.2, "short": 0.8}}


def examples(source: str, ids: range) -> list[Example]:
    return [
        Example(problem_id=str(i), messages=[], completion=f"{source}{i}", num_tokens=1, source=source) for i in ids
    ]


def test_choice_depends_on_the_seed_and_on_problems_not_on_order() -> None:
    rows = examples("a", range(50))
    chosen = {example.problem_id for example in choose(rows, 10, seed=0)}
    assert {example.problem_id for example in choose(rows[::-1], 10, seed=0)} == chosen
    assert {example.problem_id for example in choose(rows, 10, seed=1)} != chosen
    assert chosen < {example.problem_id for example in choose(rows, 20, seed=0)}


def test_too_few_is_an_error_and_not_a_smaller_recipe() -> None:
    with pytest.raises(ArtifactError, match=r"only 5 examples passed the filters, select\.num_examples=10"):
        choose(examples("a", range(5)), 10, seed=0)
    with pytest.raises(ArtifactError, match="no completion passed"):
        choose([], None, seed=0)


def test_mixtures_have_their_proportions_and_no_problem_twice() -> None:
    parts = {"long": examples("long", range(100)), "short": examples("short", range(100))}
    mixed = mixture(parts, {"long": 0.2, "short": 0.8}, 50, seed=0)
    assert sum(example.source == "long" for example in mixed) == 10
    assert len({example.problem_id for example in mixed}) == len(mixed) == 50


def test_mixtures_without_a_size_are_as_large_as_the_scarcest_part_allows() -> None:
    parts = {"long": examples("long", range(10)), "short": examples("short", range(10, 200))}
    mixed = mixture(parts, {"long": 0.2, "short": 0.8}, None, seed=0)
    assert len(mixed) == 50 and sum(example.source == "long" for example in mixed) == 10


def test_the_error_of_a_mixture_names_the_part_that_is_too_small() -> None:
    parts = {"long": examples("long", range(10)), "short": examples("short", range(20))}
    with pytest.raises(ArtifactError, match="part 'short' has 14 problems that no other part uses, and 24 are wanted"):
        mixture(parts, {"long": 0.2, "short": 0.8}, 30, seed=0)


def test_mixtures_of_parts_that_overlap_keep_their_proportions() -> None:
    parts = {"long": examples("long", range(100)), "short": examples("short", range(100))}
    mixed = mixture(parts, {"long": 0.2, "short": 0.8}, None, seed=0)
    assert len(mixed) == 100 and sum(example.source == "long" for example in mixed) == 20
    three = mixture(parts | {"mid": examples("mid", range(50, 150))}, {"long": 0.5, "short": 0.25, "mid": 0.25}, 40, 0)
    assert [sum(example.source == name for example in three) for name in ("long", "short", "mid")] == [20, 10, 10]


def test_recipes_on_the_same_problems_report_dropped_problems_by_recipe() -> None:
    pools = {"long": examples("long", range(60)), "short": examples("short", range(20, 100))}
    recipes, account = match(pools, ARMS, PROBLEMS, seed=0)
    ids = {recipe: {example.problem_id for example in rows} for recipe, rows in recipes.items()}
    assert ids["long"] == ids["short"] == ids["mix"] == {str(i) for i in range(20, 60)}
    assert sum(example.source == "long" for example in recipes["mix"]) == 8
    assert account["generators"] == {
        "long": {"passed": 60, "lost": 20, "alone_lacks": 40}, "short": {"passed": 80, "lost": 40, "alone_lacks": 20},
    }  # fmt: skip
    smaller, _ = match(pools, ARMS, replace(PROBLEMS, num_examples=10), seed=0)
    first, *others = ({example.problem_id for example in rows} for rows in smaller.values())
    assert len(first) == 10 and all(other == first for other in others)


def test_recipes_of_the_same_budget_are_as_long_as_the_smallest() -> None:
    pools = {
        "long": [replace(example, num_tokens=10) for example in examples("long", range(50))],
        "short": [replace(example, num_tokens=3) for example in examples("short", range(50))],
    }
    recipes, account = match(pools, ARMS, TOKENS, seed=0)
    assert account["budget_tokens"] == 150 and [len(recipes[recipe]) for recipe in ("long", "short")] == [15, 50]
    tokens = {recipe: sum(example.num_tokens for example in rows) for recipe, rows in recipes.items()}
    assert all(150 - 10 < count <= 150 for count in tokens.values())
    assert (
        account["recipes"]["long"]["lost_to_budget"] == 35 and account["recipes"]["mix"]["num_tokens"] == tokens["mix"]
    )


def test_what_cannot_be_matched_is_an_error() -> None:
    pools = {"long": examples("long", range(10)), "short": examples("short", range(10, 20))}
    with pytest.raises(ArtifactError, match=r"no problem was solved by all of long, short; compare fewer recipes"):
        match(pools, ARMS, PROBLEMS, seed=0)
    with pytest.raises(ArtifactError, match="long has several examples on one problem"):
        match(pools | {"long": [*pools["long"], *pools["long"]]}, ARMS, PROBLEMS, seed=0)
    with pytest.raises(ArtifactError, match=r"part 'long' has 10 .* 12 are wanted \(select\.num_examples=12\)"):
        match(pools, ARMS, replace(TOKENS, num_examples=12), seed=0)


def scored(rows: list[Example], bits: list[float], rank: int = 1) -> list[ExampleScore]:
    return [
        ExampleScore(
            index=index, problem_id=row.problem_id, source=row.source, nll_nats=value * 10, num_bytes=10,
            num_characters=10, num_tokens=1, rank_sum=rank, num_beyond={},
        )
        for index, (row, value) in enumerate(zip(rows, bits, strict=True))
    ]  # fmt: skip


def test_the_least_candidate_of_each_problem_is_chosen() -> None:
    parts = {
        "long": examples("long", range(3)),
        "short": [*examples("short", range(1, 4)), *examples("more", range(3, 4))],
    }
    scores = {"long": scored(parts["long"], [3, 1, 5]), "short": scored(parts["short"], [2, 4, 6, 5])}
    chosen = best_candidates(parts, scores, "student_bpc")
    assert [example.completion for example in chosen] == ["long0", "long1", "short2", "more3"]


def test_of_equally_likely_completions_the_first() -> None:
    parts = {"a": examples("a", range(1)), "b": examples("b", range(1))}
    scores = {label: scored(rows, [1.5]) for label, rows in parts.items()}
    assert [example.source for example in best_candidates(parts, scores, "student_bpc")] == ["a"]


def test_a_low_ratio_of_rank_to_surprisal_is_first() -> None:
    parts = {"sure": examples("sure", range(1)), "new": examples("new", range(1)), "odd": examples("odd", range(1))}
    scores = {
        "sure": scored(parts["sure"], [0.1], rank=1),  # likely, and nothing to learn
        "new": scored(parts["new"], [2.0], rank=2),  # unlikely, and among the first tokens
        "odd": scored(parts["odd"], [3.0], rank=50),
    }
    assert [example.source for example in best_candidates(parts, scores, "student_rsr")] == ["new"]
    assert [example.source for example in best_candidates(parts, scores, "student_bpc")] == ["sure"]


@pytest.mark.parametrize("name", RANKINGS)
def test_every_ranking_is_a_property_of_a_score(name: str) -> None:
    [score] = scored(examples("any", range(1)), [1.0])
    assert getattr(score, RANKINGS[name]) > 0
