"""Training towards the probabilities of a teacher, end to end in the toy setting."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fork_server
import pytest
import torch
from toy_models import model_of
from training import Prepared, assert_same, fitted, fitted_until
from transformers import AutoTokenizer

from micota import graph
from micota.artifacts.jsonl import read_jsonl
from micota.artifacts.store import Store
from micota.config import Config
from micota.data.sources import model_folder
from micota.errors import ConfigError
from micota.export import export
from micota.sft.rollouts import Rollout
from micota.stages import train

KD = ["objective=logit_kd", "objective.teacher=bundled:ta", "student.sft.epochs=1"]


@pytest.mark.parametrize("name", ["on_policy", pytest.param("logit_kd", marks=pytest.mark.slow)])
def test_a_teacher_equal_to_the_student_teaches_nothing(prepared: Prepared, name: str) -> None:
    options = [f"objective={name}", "objective.teacher=bundled:student", "student.sft.learning_rate=1e-30"]
    options += ["student.sft.max_steps=2"]
    options += ["objective.sampling.max_tokens=40"] if name == "on_policy" else []
    folder, curve = fitted(prepared(*options))
    assert curve.losses == pytest.approx([0] * 2, abs=1e-5)
    assert (folder / "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("options", [["objective.divergence=jsd", "objective.hard_weight=0.2"], ["objective.top_k=4"]])
def test_the_student_comes_nearer_to_its_teacher(prepared: Prepared, options: list[str]) -> None:
    _, curve = fitted(prepared(*KD, "student.sft.epochs=4", "student.sft.validation_fraction=0.1", *options))
    first, last = (sum(part) / 5 for part in (curve.losses[:5], curve.losses[-5:]))
    assert last < 0.8 * first
    assert curve.metrics[-1]["validation/loss"] > 0, "the validation loss is that of SFT"


@pytest.mark.slow
def test_micro_batches_and_attention_do_not_change_the_loss(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config]
) -> None:
    one, curve = fitted(prepared(*KD))
    cut = prepared(*KD, "trainer.pack_length=200", "trainer.micro_batch_rows=3")
    other, again = fitted(elsewhere(cut, "cut"))
    assert again.losses == pytest.approx(curve.losses, abs=1e-5)
    assert_same(other, one, tolerance=1e-4)


OP = ["objective=on_policy", "objective.teacher=bundled:ta", "objective.sampling.max_tokens=40"]


@pytest.mark.slow
def test_the_student_learns_on_its_answers_and_goes_on_with_them_after_a_stop(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config]
) -> None:
    """A checkpoint within a round needs the answers that the weights at its start gave."""
    options = [*OP, "objective.round_steps=3", "student.sft.batch_size=10", "student.sft.epochs=1.5"]
    whole, curve = fitted(prepared(*options))
    answers = [read_jsonl(whole / f"rollouts/round={number}.jsonl", Rollout) for number in (0, 1)]
    assert [len(rows) for rows in answers] == [30, 30] and not (whole / "rollouts/round=2.jsonl").exists()
    assert len({row.completion for row in answers[0]}) > 20
    assert [metrics["train/answer_tokens"] for metrics in curve.metrics if "train/answer_tokens" in metrics][:2] == [
        sum(len(row.token_ids) + (row.finish_reason == "stop") for row in answers[0][start : start + 10]) / 10
        for start in (0, 10)
    ]
    again = elsewhere(prepared(*options), "again")
    with pytest.raises(KeyboardInterrupt):
        fitted_until(again, 4)
    resumed, rest = fitted(again)
    assert rest.losses == pytest.approx(curve.losses[-len(rest.losses) :], abs=1e-6) and len(rest.losses) < 4
    assert_same(resumed, whole)
    assert (resumed / "rollouts/round=1.jsonl").read_bytes() == (whole / "rollouts/round=1.jsonl").read_bytes()


@pytest.mark.slow
def test_two_processes_sample_and_learn_as_one(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    fork_server.start_ranks(monkeypatch)
    options = [*OP, "student.sft.max_steps=3", "objective.round_steps=2"]
    one, curve = fitted(prepared(*options))
    two, again = fitted(elsewhere(prepared(*options, "trainer.devices=2"), "two"))
    assert again.losses == pytest.approx(curve.losses, abs=1e-4)
    assert_same(two, one, tolerance=2e-4)
    rows = [read_jsonl(folder / "rollouts/round=0.jsonl", Rollout) for folder in (one, two)]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_on_policy_the_divergence_from_the_teacher_falls(prepared: Prepared) -> None:
    _, curve = fitted(prepared(*OP, "student.sft.epochs=4", "objective.round_steps=2"))
    assert sum(curve.losses[-5:]) < 0.8 * sum(curve.losses[:5])


@pytest.mark.parametrize(
    "options", [["data=strong"], pytest.param(KD[:2], marks=pytest.mark.slow), pytest.param(OP, marks=pytest.mark.slow)]
)
def test_a_budget_of_arithmetic_ends_training(prepared: Prepared, options: list[str]) -> None:
    """Of all parts together; the learning rate follows the share of it that is used."""
    folder, curve = fitted(prepared(*options, "student.sft.max_flops=3e8", "student.sft.warmup_ratio=0"))
    flops = {k: v for k, v in json.loads((folder / "manifest.json").read_text())["metrics"].items() if "flops" in k}
    assert len(flops) == {"data=strong": 1, KD[0]: 2, OP[0]: 3}[options[0]]
    assert 3e8 <= sum(flops.values()) < 4.5e8
    rates = [metrics["train/learning_rate"] for metrics in curve.metrics if "train/learning_rate" in metrics]
    assert rates[0] == pytest.approx(1e-3) and rates == sorted(rates, reverse=True) and rates[-1] < 3e-4


def test_answers_beyond_the_context_are_refused(prepared: Prepared) -> None:
    config = prepared("objective=on_policy", "objective.teacher=bundled:ta", "objective.sampling.max_tokens=4096")
    with pytest.raises(ConfigError, match=r"objective\.sampling\.max_tokens=4096 .*accepted: at most \d+"):
        train.read_inputs(Store(config.artifacts), graph.trained(config, "student"))


def test_a_teacher_with_other_tokens_is_refused_before_anything_is_made(
    composed: Callable[..., Any], tmp_path: Path
) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    words = tokenizer.backend_tokenizer.to_str().replace('" pens"', '" hens"')
    tokenizer._tokenizer = type(tokenizer.backend_tokenizer).from_str(words)
    torch.manual_seed(0)
    export(model_of("qwen2", tied=True), tokenizer, tmp_path / "other")
    options = ["experiment=tiny", "data=strong", "objective=logit_kd", f"objective.teacher={tmp_path / 'other'}"]
    config = composed("train", *options)
    with pytest.raises(ConfigError, match=r"objective\.teacher=.*id \d+ is ' hens'.*student tiny_student ' pens'"):
        train.check_placement(config, graph.trained(config, "student"))


def test_without_a_path_a_teacher_is_refused(composed: Callable[..., Any]) -> None:
    config = composed("train", "experiment=tiny", "data=strong", "objective=logit_kd", "objective.teacher=model")
    with pytest.raises(ConfigError, match=r"objective\.model\.path is null; accepted: objective\.teacher=PATH"):
        graph.trained(config, "student")
