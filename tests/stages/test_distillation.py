"""Training towards the probabilities of a teacher, end to end in the toy setting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_models import model_of
from training import Prepared, assert_same, fitted
from transformers import AutoTokenizer

from micota import graph
from micota.config import Config
from micota.data.sources import model_folder
from micota.errors import ConfigError
from micota.export import export
from micota.stages import train

KD = ["objective=logit_kd", "objective.teacher=bundled:ta", "student.sft.epochs=1"]


def test_a_teacher_equal_to_the_student_teaches_nothing(prepared: Prepared) -> None:
    folder, curve = fitted(prepared(*KD, "objective.teacher=bundled:student", "student.sft.learning_rate=1e-30"))
    assert curve.losses == pytest.approx([0] * 10, abs=1e-5)
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
