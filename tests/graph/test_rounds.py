"""Training in rounds is nodes as any other: the student after a round chooses the data of the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from conftest import case_of

from micota import graph
from micota.config import arguments_for
from micota.errors import ConfigError
from micota.graph.node import AnyNode
from micota.graph.rounds import sft_of_round

STEERED = ["data=annealed", "curriculum=steered_annealing"]
TINY, MATCHED = ["experiment=tiny"], ["experiment=tiny/ways", "select.num_examples=null"]
Of = Callable[..., Any]


def test_each_round_goes_on_from_the_last_with_data_that_it_chose(of: Of) -> None:
    config = of("train", *TINY, *STEERED)
    rounds = graph.rounds_of(graph.trained(config, "student"))
    assert [node.name for node in rounds] == [
        "tiny_student+annealed.round1", "tiny_student+annealed.round2", "tiny_student+annealed.steered",
    ]  # fmt: skip
    models = [node.inputs["model"] for node in rounds]
    assert models[0].is_source and models[1:] == rounds[:-1]
    for node, before in zip(rounds, models, strict=True):
        chosen = node.inputs["data"]
        assert chosen.spec.select_by == "student_rsr"
        measured = [chosen.inputs[graph.likelihood_of(label)] for label in ("low", "middle", "high")]
        assert all(each.inputs["model"] is before for each in measured)
    assert len({node.inputs["data"].key for node in rounds}) == 3 and len({node.spec.seed for node in rounds}) == 3
    assert rounds[0].inputs["data"].key == graph.student_data(config).key, "generate makes the first round's data"


@pytest.mark.parametrize(
    ("length", "each"),
    [
        ({"epochs": 3}, [{"epochs": 1}] * 3),
        ({"epochs": 1, "max_steps": 8}, [{"max_steps": 2}, {"max_steps": 3}, {"max_steps": 3}]),
        ({"epochs": 1, "max_flops": 3e9}, [{"max_flops": 1e9}] * 3),
    ],
)
def test_rounds_share_the_training_and_have_no_curriculum_of_their_own(of: Of, length: Any, each: Any) -> None:
    sft = replace(of("train", *TINY, *STEERED).student.sft, **length).settled()
    made = [sft_of_round(sft, number, 3) for number in range(3)]
    assert [{name: getattr(one, name) for name in wanted} for one, wanted in zip(made, each, strict=True)] == each
    assert {one.curriculum.order for one in made} == {"random"} and {one.learning_rate for one in made} == {
        sft.learning_rate
    }


def test_commands_make_what_they_name(of: Of) -> None:
    """Those for the data of other recipes too, which repeat the curriculum."""
    base, tried = [*MATCHED, *STEERED[1:], "bench=[tiny_easy]"], set()
    for node in graph.unique(graph.experiment([case_of([of("generate", *base, *STEERED[:1])])]).targets()):
        task = (node.command, *sorted(node.choose.items()))
        if node.command in ("generate", "train") and task not in tried:
            tried.add(task)
            config = of(node.command, *arguments_for(base, node.choose))
            target = graph.student_data(config) if node.command == "generate" else graph.trained(config, config.role)
            assert node.folder in {made.folder for made in graph.unique([target])}, (node.name, node.choose)
    assert {"data": "annealed"} in [dict(choose) for _, *choose in tried], tried


def test_matched_rounds_choose_among_the_problems_of_all_recipes(of: Of) -> None:
    node = graph.trained(of("train", *MATCHED, *STEERED), "student")
    chosen = node.inputs["data"]
    assert chosen.inputs["matched"].spec.compared_as == "annealed"
    assert set(graph.parts_of(chosen)) == {"low", "middle", "high"}


def test_many_rounds_take_a_moment(of: Of) -> None:
    config = of("train", *TINY, *STEERED, "student.sft.curriculum.rounds=40")
    nodes: list[AnyNode] = graph.unique(graph.experiment([case_of([config])]).targets())
    assert sum(node.stage == "train" for node in nodes) == 41, "40 rounds and the TA"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data=micota"], "data=micota, which has no parts to choose from; accepted: a recipe of parts"),
        (["objective=on_policy"], "with objective=on_policy"),
        (["student.sft.max_steps=2"], r"max_steps=2 with student\.sft\.curriculum\.rounds=3; accepted: at least"),
        (["select.match=tokens", "compare.recipes=[annealed]"], r"select\.match=tokens: .*; accepted: problems, none"),
        (["trainer.continue_from=/a"], r"trainer\.continue_from=/a .* accepted: null"),
    ],
)
def test_what_rounds_cannot_do_is_refused(of: Of, overrides: list[str], words: str) -> None:
    config = of("train", *TINY, *STEERED, *overrides)
    with pytest.raises(ConfigError, match=words):
        graph.trained(config, "student")
