from __future__ import annotations

import pytest

from micota.artifacts import ArtifactError
from micota.config import PromptConfig, SelectConfig, SourceConfig
from micota.graph import DataSpec
from micota.records import Completion, Example, Problem
from micota.stages.generate import choose, keep, mixture

SELECT = SelectConfig(filters=["finished", "correct", "length"], max_tokens=10)
SPEC = DataSpec(
    arm="strong",
    problems=SourceConfig(path="x"),
    prompt=PromptConfig(template="{problem}?"),
    select=SELECT,
    weights={},
    path=None,
    fingerprint=None,
    seed=0,
)
PROBLEMS = {str(i): Problem(id=str(i), problem=f"p{i}", answer="7") for i in range(6)}


def completion(problem: int, text: str, reason: str = "stop", tokens: int = 5) -> Completion:
    return Completion(
        problem_id=str(problem), sample=0, prompt_hash="h", completion=text, finish_reason=reason,
        num_prompt_tokens=3, num_tokens=tokens, seconds=0.1,
    )  # fmt: skip


def examples(source: str, ids: range) -> list[Example]:
    return [
        Example(problem_id=str(i), messages=[], completion=f"{source}{i}", num_tokens=1, source=source) for i in ids
    ]


def test_each_drop_has_its_reason_and_filters_go_in_order() -> None:
    rows = [
        completion(0, r"\boxed{7}"),
        completion(1, r"\boxed{8}"),
        completion(2, "no box"),
        completion(3, r"\boxed{7}", reason="length"),
        completion(4, r"\boxed{7}", tokens=11),
        completion(5, r"\boxed{8}", tokens=11),
    ]
    kept, reasons = keep(rows, PROBLEMS, SPEC)
    assert [example.problem_id for example in kept] == ["0"]
    assert kept[0].messages == [{"role": "user", "content": "p0?"}]
    assert reasons == {
        "dropped_incorrect": 2,
        "dropped_no_answer": 1,
        "dropped_not_finished_length": 1,
        "dropped_too_long": 1,
    }
    assert len(kept) + sum(reasons.values()) == len(rows)


def test_choice_depends_on_the_seed_and_on_problems_not_on_order() -> None:
    rows = examples("a", range(50))
    select = SelectConfig(filters=[], num_examples=10)
    chosen = {example.problem_id for example in choose(rows, select, seed=0)}
    assert {example.problem_id for example in choose(rows[::-1], select, seed=0)} == chosen
    assert {example.problem_id for example in choose(rows, select, seed=1)} != chosen
    larger = SelectConfig(filters=[], num_examples=20)
    assert chosen < {example.problem_id for example in choose(rows, larger, seed=0)}


def test_too_few_is_an_error_and_not_a_smaller_arm() -> None:
    with pytest.raises(ArtifactError, match=r"only 5 examples passed the filters, select\.num_examples=10"):
        choose(examples("a", range(5)), SelectConfig(filters=[], num_examples=10), seed=0)
    with pytest.raises(ArtifactError, match="no completion passed"):
        choose([], SelectConfig(filters=[]), seed=0)


def test_mixtures_have_their_proportions_and_no_problem_twice() -> None:
    parts = {"long": examples("long", range(100)), "short": examples("short", range(100))}
    mixed = mixture(parts, {"long": 0.2, "short": 0.8}, 50, seed=0)
    assert sum(example.source == "long" for example in mixed) == 10
    assert len({example.problem_id for example in mixed}) == len(mixed) == 50


def test_mixtures_without_a_size_are_as_large_as_the_scarcest_part_allows() -> None:
    parts = {"long": examples("long", range(10)), "short": examples("short", range(10, 200))}
    mixed = mixture(parts, {"long": 0.2, "short": 0.8}, None, seed=0)
    assert len(mixed) == 50 and sum(example.source == "long" for example in mixed) == 10


def test_mixtures_say_which_part_is_too_small() -> None:
    parts = {"long": examples("long", range(10)), "short": examples("short", range(20))}
    with pytest.raises(ArtifactError, match="part 'short' has 14 problems that no other part uses, and 24 are wanted"):
        mixture(parts, {"long": 0.2, "short": 0.8}, 30, seed=0)
