"""The teachers of a training are its inputs, in order, and stored probabilities are shared where they are the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from conftest import case_of

from micota import graph
from micota.config import Config, arguments_for
from micota.config.curriculum import CurriculumConfig
from micota.config.objective import ObjectiveConfig
from micota.errors import ConfigError
from micota.graph.merges import at_weight
from micota.graph.teachers import TARGETS, TEACHER, check_sequence, inputs_of

KD = ["experiment=tiny", "data=micota", "objective=logit_kd"]
WEIGHTS = "objective.merge_weights=[0.2,0.45,0.7]"
STORED = ["objective.top_k=4", "objective.stored=float32"]
Of = Callable[..., Any]


def calibrated(config: Config) -> Config:
    return replace(config, merge=replace(config.merge, target="accuracy"))


def test_merged_tas_one_after_the_other(of: Of) -> None:
    config = of("train", *KD, WEIGHTS)
    node = graph.trained(config, "student")
    teachers = inputs_of(node, TEACHER)
    assert [each.spec.weight for each in teachers] == [0.2, 0.45, 0.7]
    assert node.name == "tiny_student+micota.logit_kd.w0.2-0.45-0.7"
    assert [each.choose["merge.weight"] for each in teachers] == ["0.2", "0.45", "0.7"]
    other = replace(config, objective=replace(config.objective, merge_weights=[0.45, 0.2, 0.7]))
    assert graph.trained(other, "student").key != node.key, "the order determines the result"
    same = inputs_of(graph.trained(calibrated(config), "student"), TEACHER)
    assert [each.key for each in same] == [each.key for each in teachers]
    assert same[0].choose["merge.target"] == "null"


def test_parts_of_data_keep_their_weight_where_the_merge_is_calibrated(of: Of) -> None:
    config = of("generate", "experiment=tiny", "data=annealed")
    keys = [
        [part.key for part in graph.parts_of(graph.student_data(each)).values()]
        for each in (config, calibrated(config))
    ]
    assert keys[0] == keys[1] and len(set(keys[0])) == 3


def test_stored_probabilities_are_shared_by_what_does_not_change_them(of: Of) -> None:
    config = of("train", *KD, *STORED)

    def key(changed: Config) -> str:
        [node] = inputs_of(graph.trained(changed, "student"), TARGETS)
        return node.key

    def with_objective(**changes: Any) -> Config:
        return replace(config, objective=replace(config.objective, **changes))

    base = key(config)
    other = replace(of("train", *KD, "student=tiny_66k"), objective=config.objective)
    shared = [with_objective(divergence="jsd", hard_weight=0.5), with_sft(config, epochs=1, learning_rate=0.5), other]
    assert {key(each) for each in shared} == {base}
    different = [with_objective(**change) for change in ({"top_k": 3}, {"temperature": 2.0}, {"stored": "float16"})]
    different += [with_objective(teacher="large"), with_sft(config, max_tokens=99), replace(config, seed=1)]
    assert len({base, *map(key, different)}) == 1 + len(different)


@pytest.mark.slow
def test_commands_make_the_teachers_that_they_name(of: Of) -> None:
    base = ["experiment=tiny/ways", WEIGHTS, *STORED, "objective=logit_kd", "bench=[tiny_easy]"]
    base += ["select.num_examples=null"]
    for node in graph.unique(graph.experiment([case_of([of("generate", *base, "data=micota")])]).targets()):
        if node.stage in ("merge", "targets"):
            config = of(node.command, *arguments_for(base, node.choose))
            target = graph.merged(config) if node.stage == "merge" else graph.trained(config, "student")
            assert node.folder in {made.folder for made in graph.unique([target])}, (node.name, node.choose)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: with_sft(config, curriculum=CurriculumConfig(order="steered")),
         r"curriculum\.order=steered, .*; accepted: .*=\[\]"),
        (lambda config: with_sft(config, max_steps=2), r"with student\.sft\.max_steps=2; accepted: at least a step"),
        (lambda config: replace(config, trainer=replace(config.trainer, continue_from="/a")),
         r"with trainer\.continue_from=/a: .*; accepted: null"),
    ],
)  # fmt: skip
def test_what_a_sequence_cannot_do_is_refused(of: Of, change: Callable[[Config], Config], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_sequence(change(of("train", *KD, WEIGHTS)))


@pytest.mark.parametrize("method", ["mergekit", "sce"])
def test_a_merge_without_weights_of_models_is_at_no_weight(of: Of, method: str) -> None:
    config = of("train", *KD, WEIGHTS)
    merge = replace(config.merge, method=method)
    with pytest.raises(ConfigError, match=f"at weight 0.2 .* with merge.method={method}, .*; accepted: another method"):
        at_weight(replace(config, merge=merge), 0.2)


def with_sft(config: Config, **changes: Any) -> Config:
    return replace(config, student=replace(config.student, sft=replace(config.student.sft, **changes)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"name": "logit_kd", "teacher": "large", "merge_weights": [0.2]},
            "with teacher=large; accepted: teacher=ta_m",
        ),
        ({"merge_weights": [0.2]}, "merge_weights=[0.2] with name=sft; accepted: objective=logit_kd"),
    ],
)
def test_weights_without_a_merged_teacher_are_a_conflict(settings: dict[str, Any], words: str) -> None:
    [conflict] = ObjectiveConfig(**settings).conflicts()
    assert words in conflict
