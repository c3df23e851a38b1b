"""Merged TAs one after the other as the teacher, each for an equal part of the training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from training import Prepared, assert_same, fitted, fitted_until
from transformers import LlamaConfig
from transformers.models.auto import AutoModelForCausalLM

from micota import graph
from micota.artifacts.store import Store
from micota.config import Config
from micota.data.sources import model_folder
from micota.export import export
from micota.graph.specs import Distillation
from micota.pretrained import load_model, load_tokenizer
from micota.runtime.execute import perform
from micota.runtime.plan import pending, tasks_of
from micota.sft.teacher import DistillationObjective

KD = ["objective=logit_kd", "objective.teacher=ta_merged", "objective.top_k=4", "student.sft.max_steps=6"]
SEQUENCE = [*KD, "objective.merge_weights=[0.2,1.0]"]


@pytest.mark.parametrize(
    ("total", "teachers"), [(6, [0, 0, 1, 1, 2, 2]), (4, [0, 0, 1, 2]), (1.0, [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2])]
)
def test_each_teacher_has_an_equal_part_and_the_last_leaves_before_the_next_comes(
    total: float, teachers: list[int]
) -> None:
    model: Any = AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=8, hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1)
    )
    settings = Distillation(
        name="logit_kd", divergence="forward_kl", beta=None, temperature=1, hard_weight=0, top_k=None
    )
    opened: list[int] = []

    def opener(number: int) -> Callable[[], Any]:
        def open_teacher() -> Any:
            assert objective._teacher is None
            opened.append(number)
            return object()

        return open_teacher

    objective = DistillationObjective(model, settings, [opener(number) for number in range(3)])
    for step, expected in enumerate(teachers):
        objective.begin_step(step if total > 1 else step / 10, total)
        assert opened[-1] == expected
    assert opened == [0, 1, 2]


@pytest.fixture
def tuned(tmp_path: Path) -> str:
    """The override that sets a TA after SFT: the TA with other weights."""
    model: Any = load_model(model_folder("bundled:ta"))
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn_like(weight)
    export(model, load_tokenizer(model_folder("bundled:ta")), tmp_path / "tuned")
    return f"merge.tuned.path={tmp_path / 'tuned'}"


def ready(config: Config) -> Config:
    """The config, with all that its training needs made."""
    store = Store(config.artifacts)
    node = graph.trained(config, "student")
    for task in tasks_of(pending(store, node.inputs.values())):
        perform(config, store, task, Console(quiet=True))
    return config


@pytest.mark.slow
def test_the_loss_of_each_part_is_that_of_its_teacher(prepared: Prepared, tuned: str) -> None:
    still = [tuned, "student.sft.learning_rate=1e-30"]  # so that the loss depends on the teacher alone
    ways = [["objective.merge_weights=[0.2]"], ["objective.merge_weights=[1.0]"], SEQUENCE[-1:]]
    first, last, both = (fitted(ready(prepared(*KD, *still, *way)))[1].losses for way in ways)
    assert both == pytest.approx([*first[:3], *last[3:]], abs=1e-6)
    assert abs(first[3] - last[3]) > 1e-3
    stored = fitted(ready(prepared(*SEQUENCE, *still, "objective.stored=float32")))[1].losses
    assert stored == pytest.approx(both, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        [],
        ["objective=on_policy", "objective.sampling.max_tokens=20"],
        ["student.sft.max_flops=5e8", "student.sft.max_steps=null"],
    ],
)
def test_a_stopped_run_goes_on_with_its_teacher_and_ends_with_the_same_weights(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config], tuned: str, more: list[str]
) -> None:
    config = ready(prepared(*SEQUENCE, tuned, *more))
    again = ready(elsewhere(config, "again"))
    whole, curve = fitted(config)
    with pytest.raises(KeyboardInterrupt):
        fitted_until(again, 4)
    resumed, rest = fitted(again)
    assert rest.losses == curve.losses[-len(rest.losses) :] and len(rest.losses) < len(curve.losses)
    assert_same(resumed, whole)
