"""The description of a task from its nodes alone, for every kind of task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from micota import graph
from micota.config import Config
from micota.tracking.lineage import artifact_name, describe, section, tags

Compose = Callable[..., Config]


def of_evaluation(config: Any) -> dict[str, Any]:
    return describe(graph.evaluation(config))


def test_a_student_is_described_back_to_the_teacher(composed: Compose) -> None:
    config = of_evaluation(composed("evaluate", "experiment=tiny", "data=micota", "merge.density=0.3"))
    assert {name: config[name] for name in ("role", "student", "recipe", "model", "generator", "teacher")} == {
        "role": "student",
        "student": "tiny_student",
        "recipe": "micota",
        "model": "tiny_student+micota",
        "generator": "tiny_ta+strong.dare_ties-d0.3-w0.5",
        "teacher": "tiny_teacher",
    }
    assert config["merge"] == {"method": "dare_ties", "density": 0.3, "weight": 0.5}
    assert config["sft"]["learning_rate"] > 0
    assert tags(config, 7) == [
        "student:tiny_student",
        "recipe:micota",
        "teacher:tiny_teacher",
        "merge:dare_ties",
        "seed:7",
    ]


@pytest.mark.parametrize(
    ("overrides", "expected", "absent"),
    [
        (["data=instruct"], {"student": "tiny_student", "recipe": "instruct"}, {"teacher", "merge", "sft"}),
        (["data=short"], {"generator": "tiny_ta", "teacher": "tiny_ta"}, {"merge"}),
        (["data=half_size"], {"generator": "tiny_ta+strong", "teacher": "tiny_teacher"}, {"merge"}),
        (["data=mix_long"], {"recipe": "mix_long", "teacher": "tiny_ta+tiny_teacher"}, {"merge"}),
        (["role=ta_merged"], {"role": "ta_merged", "teacher": "tiny_teacher"}, {"student", "recipe"}),
        (["role=teacher"], {"role": "teacher", "model": "tiny_teacher"}, {"student", "recipe", "teacher"}),
        (["model=tiny_teacher"], {"model": "tiny_teacher"}, {"recipe", "teacher"}),
    ],
)
def test_what_does_not_apply_is_left_out(
    composed: Compose, overrides: list[str], expected: dict[str, str], absent: set[str]
) -> None:
    config = of_evaluation(composed("evaluate", "experiment=tiny", *overrides))
    assert config | expected == config
    assert not absent & config.keys()


def test_other_tasks_are_named_after_what_they_make(composed: Compose) -> None:
    config = composed("train", "experiment=tiny", "data=micota")
    assert describe([graph.trained(config, "ta")])["model"] == "tiny_ta+strong"
    assert describe([graph.merged(config)])["merge"]["weight"] == 0.5
    data = describe([graph.data(config, config.data)])
    assert data["recipe"] == "micota" and "model" not in data and "student" not in data


def test_numbers_and_artifacts_have_names_that_compare(composed: Compose) -> None:
    config = composed("train", "experiment=tiny", "data=micota")
    [first, *_] = graph.scores(config, "student").values()
    assert section(first) == "eval/easy" and section(first.inputs["completions"]) == "generation/easy"
    assert section(graph.trained(config, "student")) == "train"
    assert artifact_name(first) == f"tiny_student.micota.easy-{first.key}"
