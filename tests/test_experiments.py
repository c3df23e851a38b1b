"""Experiments over several cases: what their arms are, that cases share what they have in common, and that every
command leads to what it is printed for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from micota import graph
from micota.config import Config, ConfigError, command
from micota.experiments import cases
from micota.records import Node

Composed = Callable[..., Any]
TWO_BY_TWO = [
    "experiment=tiny",
    "seed=3",
    "+compare.axes.student=[tiny,tiny2]",
    "+compare.axes.teacher=[{greedy: ['teacher.sampling.temperature=0', 'student.sft.epochs=2']}, {drawn: []}]",
    "compare.arms=[instruct, strong, mix_long, {other_long: ['data=mix_long', 'teacher.sampling.top_p=0.9']},"
    " {fifths: ['data=mix_long', 'data.name=fifths', 'data.weights={long: 0.4, short: 0.6}']}, micota]",
    "compare.measures=[teacher, merges, probe, scores, bpc, rank_shift]",
]


def made_by(composed: Composed, node: Node, overrides: list[str]) -> list[str]:
    """The folders of all that the command of a node makes or needs."""
    door, *own = command(node.door, overrides, node.choose)
    config = composed(door.removesuffix(".py"), *own)
    match node.door:
        case "generate":
            targets = [graph.data(config, config.data)]
        case "train":
            targets = [graph.trained(config, config.role)]
        case "merge":
            targets = [graph.probe(config) if config.probe else graph.merged(config)]
        case _:
            targets = graph.evaluation(config)
    return [made.folder for made in graph.unique(targets)]


def test_every_kind_of_command_makes_what_it_is_printed_for(composed: Composed) -> None:
    made = graph.experiment(cases(composed("pipeline", *TWO_BY_TWO)))
    tried = set()
    for node in graph.unique(made.targets()):
        assert not any("compare" in argument for argument in command(node.door, TWO_BY_TWO, node.choose))
        kind = (node.door, *node.choose, node.choose.get("role"))
        if kind not in tried:
            tried.add(kind)
            assert node.folder in made_by(composed, node, TWO_BY_TWO), (node.name, node.choose)


def test_arms_are_what_composing_them_alone_gives(composed: Composed) -> None:
    for arm in cases(composed("pipeline", *TWO_BY_TWO))[0].arms:
        alone = composed("generate", *(f"{key}={value}" for key, value in arm.chosen.items()), *TWO_BY_TWO)
        for item in fields(Config):
            if item.name != "overrides":
                assert getattr(arm.config, item.name) == getattr(alone, item.name), (arm.name, item.name)


def test_cases_are_the_product_of_the_axes_and_share_what_they_can(composed: Composed) -> None:
    made = graph.experiment(cases(composed("pipeline", *TWO_BY_TWO)))
    assert [case.labels for case in made.cases] == [
        {"student": student, "teacher": teacher} for student in ("tiny", "tiny2") for teacher in ("greedy", "drawn")
    ]
    assert [arm.name for arm in made.cases[0].comparison.arms][-2:] == ["fifths", "micota"]
    nodes = graph.unique(made.targets())
    assert (
        len([node for node in nodes if node.name == "tiny_teacher@tiny"]) == 4
    )  # of two teachers, each with two top_p
    [short] = [node for node in nodes if node.name == "tiny_ta@tiny"]
    assert short.choose == {"data": "short"}, "a command names what the node does not depend on"
    assert len([node for node in nodes if node.stage == "train" and node.name.endswith("+fifths")]) == 4


def test_the_command_line_wins_and_chooses_among_points(composed: Composed) -> None:
    [one, other] = cases(composed("pipeline", *TWO_BY_TWO, "student=tiny2", "student.sft.epochs=5"))
    assert {case.labels["student"] for case in (one, other)} == {"tiny2"}
    assert {arm.config.student.sft.epochs for arm in (*one.arms, *other.arms)} == {5}
    elsewhere = cases(composed("pipeline", *TWO_BY_TWO, "student=qwen7b"))
    assert {case.config.student.name for case in elsewhere} == {"qwen7b"}
    with pytest.raises(ConfigError, match="teacher=qwq32b: the experiment has no such point"):
        cases(composed("pipeline", *TWO_BY_TWO, "teacher=qwq32b"))


def test_what_is_not_measured_is_not_made(composed: Composed) -> None:
    made = graph.experiment(cases(composed("pipeline", "experiment=tiny", "compare.measures=[bpc]")))
    stages = {node.stage for node in graph.unique(made.targets())}
    assert "grade" not in stages and "measure" in stages
    assert [node.name for node in graph.unique(made.targets()) if node.stage == "train"] == ["tiny_ta+strong"]
