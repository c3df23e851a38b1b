"""The teachers of a training are its inputs, in order, and stored probabilities are shared where they are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import hydra
import pytest
from conftest import case_of, compose_quickly

from micota import graph
from micota.cli import app
from micota.config import SCHEMAS, Call, arguments_for
from micota.config.roles import for_hydra
from micota.errors import ConfigError
from micota.graph.teachers import TARGETS, TEACHER, inputs_of

KD = ["experiment=tiny", "data=micota", "objective=logit_kd"]
WEIGHTS = "objective.merge_weights=[0.2,0.45,0.7]"
STORED = ["objective.top_k=4", "objective.stored=float32"]
Of = Callable[..., Any]


@pytest.fixture(scope="module")
def of() -> Iterator[Of]:
    """Composes the config of a command, each once."""
    made: dict[tuple[str, ...], Any] = {}

    def compose(command: str, *overrides: str) -> Any:
        if (command, *overrides) not in made:
            composed, call = compose_quickly(command, for_hydra(overrides)), Call(overrides=list(overrides))
            made[command, *overrides] = app.prepare(composed, SCHEMAS[command], call)
        return made[command, *overrides]

    with hydra.initialize_config_dir(str(app.CONF), version_base="1.3"):
        yield compose


def test_merged_tas_one_after_the_other(of: Of) -> None:
    node = graph.trained(of("train", *KD, WEIGHTS), "student")
    teachers = inputs_of(node, TEACHER)
    assert [each.spec.weight for each in teachers] == [0.2, 0.45, 0.7]
    assert node.name == "tiny_student+micota.logit_kd.w0.2-0.45-0.7"
    assert [each.choose["merge.weight"] for each in teachers] == ["0.2", "0.45", "0.7"]
    other = graph.trained(of("train", *KD, "objective.merge_weights=[0.45,0.2,0.7]"), "student")
    assert other.key != node.key, "the order determines the result"
    calibrated = graph.trained(of("train", *KD, WEIGHTS, "merge.target=accuracy"), "student")
    assert [each.key for each in inputs_of(calibrated, TEACHER)] == [each.key for each in teachers]
    assert inputs_of(calibrated, TEACHER)[0].choose["merge.target"] == "null"


def test_parts_of_data_keep_their_weight_where_the_merge_is_calibrated(of: Of) -> None:
    keys = [
        [part.key for part in graph.parts_of(graph.student_data(of("generate", "data=annealed", *more))).values()]
        for more in (["experiment=tiny"], ["experiment=tiny", "merge.target=accuracy"])
    ]
    assert keys[0] == keys[1] and len(set(keys[0])) == 3


def test_stored_probabilities_are_shared_by_what_does_not_change_them(of: Of) -> None:
    def key(*overrides: str) -> str:
        [node] = inputs_of(graph.trained(of("train", *KD, *STORED, *overrides), "student"), TARGETS)
        return node.key

    base = key()
    same = ["objective.divergence=jsd", "objective.hard_weight=0.5", "student=tiny_66k", "student.sft.epochs=1"]
    assert key(*same, "student.sft.learning_rate=0.5") == base
    different = ["data=strong", "objective.teacher=large", "objective.top_k=3", "objective.temperature=2"]
    different += ["objective.stored=float16", "student.sft.max_tokens=99", "seed=1"]
    assert len({base, *map(key, different)}) == 1 + len(different)


def test_commands_make_the_teachers_that_they_name(of: Of) -> None:
    base = [
        "experiment=tiny/ways",
        WEIGHTS,
        *STORED,
        "objective=logit_kd",
        "bench=[tiny_easy]",
        "select.num_examples=null",
    ]
    for node in graph.unique(graph.experiment([case_of([of("generate", *base, "data=micota")])]).targets()):
        if node.stage in ("merge", "targets"):
            config = of(node.command, *arguments_for(base, node.choose))
            target = graph.merged(config) if node.stage == "merge" else graph.trained(config, "student")
            assert node.folder in {made.folder for made in graph.unique([target])}, (node.name, node.choose)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["merge=mergekit", "+merge.config={merge_method: linear, models: [{model: before}, {model: after}]}"],
         r"merge_weights=\[0\.2, 0\.45, 0\.7\] with merge\.method=mergekit, .*; accepted: another method"),
        (["data=annealed", "curriculum=steered_annealing"], r"curriculum\.order=steered, .*; accepted: .*=\[\]"),
        (["student.sft.max_steps=2"], r"with student\.sft\.max_steps=2; accepted: at least a step"),
        (["trainer.continue_from=/a"], r"with trainer\.continue_from=/a: .*; accepted: null"),
        (["objective.teacher=large"], r"with teacher=large; accepted: teacher=ta_merged"),
        (["objective=sft"], r"merge_weights=\[0\.2, 0\.45, 0\.7\] with name=sft; accepted: objective=logit_kd"),
    ],
)  # fmt: skip
def test_what_a_sequence_cannot_do_is_refused(of: Of, overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        graph.trained(of("train", *KD, WEIGHTS, *overrides), "student")
