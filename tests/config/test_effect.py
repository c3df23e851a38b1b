"""Keys of the command line that change nothing are named, and those that count are not."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import pytest

from micota.config import Call
from micota.config.effect import keys_without_effect

Composed = Callable[..., Any]
NOTES = [
    ("train objective=logit_kd role=ta", "objective=logit_kd has no effect with role=ta: the TA learns by "
     "objective=sft; it counts with role=student"),
    ("train role=ta student.sft.epochs=3", "student.sft.epochs=3 has no effect with role=ta; it counts "
     "with role=student, and ta.sft.epochs here"),
    ("train objective=logit_kd objective.beta=0.3", "objective.beta=0.3 has no effect with "
     "objective.divergence=forward_kl; it counts with objective.divergence=jsd"),
    ("train objective.teacher=teacher", "objective.teacher=teacher has no effect with objective.name=sft; it counts "
     "with objective.name=logit_kd, on_policy"),
    ("train objective=logit_kd objective.sampling.temperature=0.4", "objective.sampling.temperature=0.4 has no effect "
     "with objective.name=logit_kd; it counts with objective.name=on_policy"),
    ("train student.sft.max_steps=4 student.sft.epochs=3", "student.sft.epochs=3 has no effect with "
     "student.sft.max_steps=4; it counts with student.sft.max_steps=null"),
    ("train trainer.evaluate_problems=3", "trainer.evaluate_problems=3 has no effect with trainer.evaluate_every=null; "
     "it counts with another trainer.evaluate_every"),
    ("merge merge.gamma=0.3", "merge.gamma=0.3 has no effect with merge.method=dare_ties; it counts with "
     "merge.method=breadcrumbs, breadcrumbs_ties"),
    ("merge merge.instruct_weight=0.3", "merge.instruct_weight=0.3 has no effect with merge.instruct.path=null; it "
     "counts with another merge.instruct.path"),
    ("generate select.language=de", "select.language=de has no effect with select.filters=[finished, correct, length]; "
     "it counts with select.filters=language"),
    ("evaluate evaluation.sampling.top_p=0.9", "evaluation.sampling.top_p=0.9 has no effect with "
     "evaluation.sampling.temperature=0; it counts with another evaluation.sampling.temperature"),
]  # fmt: skip
COUNT = [
    "train objective=logit_kd role=student objective.teacher=teacher",
    "train objective=logit_kd objective.divergence=jsd objective.beta=0.3",
    "train ta.sft.epochs=3 objective=sft role=ta",
    "generate select.filters=[finished,language] select.language=de",
    "pipeline objective.beta=0.3 'compare.axes={objective.divergence: [forward_kl, jsd]}'",
]


@pytest.mark.parametrize(("line", "note"), NOTES)
def test_a_key_without_effect_is_named_with_what_gives_it_one(composed: Composed, line: str, note: str) -> None:
    assert notes(composed, line) == [note]


@pytest.mark.parametrize("line", COUNT)
def test_a_key_that_counts_is_not_named(composed: Composed, line: str) -> None:
    assert notes(composed, line) == []


def notes(composed: Composed, line: str) -> list[str]:
    command, *overrides = shlex.split(line)
    config = composed(command, "experiment=tiny", *overrides)
    config.call = Call(overrides=overrides)
    return keys_without_effect(config)
