from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from transformers import LlamaConfig
from transformers.models.auto import AutoModelForCausalLM

from micota.config import SftConfig, TrainerConfig
from micota.sft.activation_checkpointing import ActivationCheckpointing
from micota.sft.callbacks import StepMetrics
from micota.sft.data import SftDataModule
from micota.sft.learning_rate import learning_rate_factor
from micota.sft.losses import Objective
from micota.sft.module import SftModule
from micota.sft.packing import Tokens
from micota.sft.shape import Shape
from micota.sft.splits import schedule

SFT = SftConfig(learning_rate=1e-2, batch_size=8, epochs=2, warmup_ratio=0.2)
CPU = TrainerConfig(name="cpu", accelerator="cpu", precision="32-true", pack_length=40, micro_batch_rows=100)


def tokens() -> list[Tokens]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(6, 30, (20,), generator=generator).tolist()
    return [Tokens(ids=torch.randint(2, 32, (n,), generator=generator).tolist(), num_prompt=2) for n in lengths]


class Seen:
    """Progress that appends the metrics of every step to a list."""

    def __init__(self, metrics: list[dict[str, float]]) -> None:
        self.metrics = metrics

    def begin(self, total: int) -> None: ...

    def step(self, metrics: Mapping[str, float], step: int) -> None:
        self.metrics.append(dict(metrics))


def fit(
    trainer: TrainerConfig = CPU, sft: SftConfig = SFT, most_tokens: dict[str, int] | None = None
) -> tuple[Any, list[dict[str, float]]]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model: Any = AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
    )
    data = SftDataModule(tokens(), sft, trainer, seed=0)
    seen: list[dict[str, float]] = []
    checkpointing = None if most_tokens is None else ActivationCheckpointing(model, most_tokens)
    module = SftModule(Objective(model, checkpointing=checkpointing), sft, trainer, len(data.steps))
    Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, callbacks=[StepMetrics(Seen(seen), Shape.of(model), None)],
    ).fit(module, data)  # fmt: skip
    return model, seen


def test_it_learns() -> None:
    _, seen = fit(sft=SftConfig(learning_rate=1e-2, batch_size=20, epochs=30))
    assert seen[-1]["train/loss"] < 0.5 * seen[0]["train/loss"]


@pytest.mark.parametrize(
    "layout", [{"micro_batch_rows": 1}, {"micro_batch_rows": 3}, {"pack_length": 1000}, {"pack_length": 1}]
)
def test_results_do_not_depend_on_how_the_work_is_cut_up(layout: dict[str, int]) -> None:
    whole, losses = fit()
    pieces, other = fit(TrainerConfig(**{**vars(CPU), **layout}))
    assert [m["train/loss"] for m in other] == pytest.approx([m["train/loss"] for m in losses], rel=1e-4)
    for value, expected in zip(pieces.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-4)


def test_what_is_computed_again_is_chosen_for_each_micro_batch_and_changes_nothing() -> None:
    trainer = TrainerConfig(**{**vars(CPU), "pack_length": 1})  # a sequence each, of 6 to 29 tokens
    kept, losses = fit(trainer)
    chosen, other = fit(trainer, most_tokens={"none": 12, "selective": 20, "full": 30})
    assert [m["train/loss"] for m in other] == [m["train/loss"] for m in losses]
    assert all(torch.equal(a, b) for a, b in zip(chosen.parameters(), kept.parameters(), strict=True))
    sizes = [len(row.ids) for row in tokens()]
    assert min(sizes) <= 12 and any(12 < size <= 20 for size in sizes) and max(sizes) > 20


def test_the_first_loss_is_the_mean_over_supervised_tokens() -> None:
    """Not the mean of means: sequences differ in length."""
    _, seen = fit()
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
    )
    nll, count = 0.0, 0
    sequences = tokens()
    for index in schedule(20, 8, 2, seed=0)[0]:
        ids = torch.tensor([sequences[index].ids])
        labels = ids.clone()
        labels[:, :2] = -100
        nll += float(model(input_ids=ids, labels=labels).loss) * (ids.shape[1] - 2)
        count += ids.shape[1] - 2
    assert seen[0]["train/loss"] == pytest.approx(nll / count, rel=1e-5)


@pytest.mark.parametrize("layout", [{"micro_batch_rows": 1}, {"micro_batch_rows": 3}])
def test_weights_and_losses_are_those_of_a_loop_by_hand(layout: dict[str, int]) -> None:
    """Without packing: a sequence at a time, AdamW, cosine with warm-up, clipping."""
    model, seen = fit(TrainerConfig(**{**vars(CPU), **layout}))
    torch.manual_seed(0)
    plain: Any = AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
    )
    decayed = [weight for weight in plain.parameters() if weight.ndim >= 2]
    others = [weight for weight in plain.parameters() if weight.ndim < 2]
    groups = [{"params": decayed, "weight_decay": SFT.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups)
    sequences, steps = tokens(), schedule(20, 8, 2, seed=0)
    for number, (step, metrics) in enumerate(zip(steps, seen, strict=True)):
        rate = (number + 1) / 2 if number < 2 else 0.5 * (1 + math.cos(math.pi * (number - 2) / (len(steps) - 2)))
        optimizer.zero_grad()
        count = sum(sequences[index].num_supervised for index in step)
        loss = 0.0
        for index in step:
            ids = torch.tensor([sequences[index].ids])
            logits = plain(input_ids=ids).logits[0, 1:-1]
            nll = torch.nn.functional.cross_entropy(logits, ids[0, 2:], reduction="sum") / count
            nll.backward()
            loss += float(nll.detach())
        torch.nn.utils.clip_grad_norm_(plain.parameters(), SFT.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = SFT.learning_rate * rate
        optimizer.step()
        assert metrics["train/loss"] == pytest.approx(loss, abs=2e-6)
    for weight, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=0, atol=2e-5)


def test_the_learning_rate_changes_every_step() -> None:
    _, seen = fit()
    rates = [metrics["train/learning_rate"] for metrics in seen]
    expected = [SFT.learning_rate * learning_rate_factor(step, 6, SFT) for step in range(6)]
    assert rates == pytest.approx(expected)
    assert rates[0] > 0 and rates[1] == pytest.approx(SFT.learning_rate)


def test_schedule_visits_every_example_once_an_epoch() -> None:
    steps = schedule(10, 4, 2, seed=1)
    assert [len(step) for step in steps] == [4, 4, 2, 4, 4, 2]
    assert (
        sorted(i for step in steps[:3] for i in step)
        == sorted(i for step in steps[3:] for i in step)
        == list(range(10))
    )
    assert schedule(10, 4, 2, seed=1) == steps != schedule(10, 4, 2, seed=2)


def test_a_part_of_an_epoch_and_a_number_of_steps_end_the_schedule() -> None:
    whole = schedule(10, 4, 3, seed=1)
    assert schedule(10, 4, 1.5, seed=1) == whole[:5], "half of three steps is two"
    assert schedule(10, 4, 1, seed=1, max_steps=2) == whole[:2]
    assert schedule(10, 4, 1, seed=1, max_steps=7) == whole[:7], "max_steps goes on to the next epochs"
    assert len(schedule(10, 4, 0.01, seed=1)) == 1


def test_betas_and_epsilon_are_those_of_adamw() -> None:
    """Two steps by the formula of Kingma & Ba 2015 with decoupled decay, against the optimiser of the module."""
    sft = SftConfig(learning_rate=0.1, batch_size=1, epochs=1, beta1=0.8, beta2=0.95, epsilon=1e-3, weight_decay=0.0)
    model, _ = fit()
    module = SftModule(Objective(model), sft, CPU, 2)
    optimizer = module.configure_optimizers()["optimizer"]
    weight = next(iter(model.parameters()))
    expected, mean, square = weight.detach().clone(), torch.zeros(()), torch.zeros(())
    for step, gradient in enumerate((0.5, -0.25), start=1):
        for group in optimizer.param_groups:
            group["lr"] = 0.1
            for other in group["params"]:
                other.grad = torch.full_like(other, gradient)
        optimizer.step()
        mean, square = 0.8 * mean + 0.2 * gradient, 0.95 * square + 0.05 * gradient**2
        expected -= 0.1 * (mean / (1 - 0.8**step)) / ((square / (1 - 0.95**step)).sqrt() + 1e-3)
    torch.testing.assert_close(weight.detach(), expected)


def test_weight_decay_is_for_matrices_alone() -> None:
    model, _ = fit()
    optimizer = SftModule(Objective(model), SFT, CPU, 1).configure_optimizers()["optimizer"]
    decays = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {2: SFT.weight_decay, 1: 0.0}


def test_the_last_loss_is_in_every_checkpoint() -> None:
    """A run that is killed between its last checkpoint and the export still reports it."""
    model, _ = fit()
    module = SftModule(Objective(model), SFT, CPU, 1)
    module.last_loss.fill_(0.25)
    again = SftModule(Objective(model), SFT, CPU, 1)
    again.load_state_dict(module.state_dict())
    assert float(again.last_loss) == 0.25


def test_nothing_but_weights_is_left_for_the_export() -> None:
    """Lightning would copy optimiser states and gradients to the machine's memory: 91 GB for 7B."""
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)
    )
    data = SftDataModule(tokens(), SFT, CPU, seed=0)
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(SftModule(Objective(model), SFT, CPU, len(data.steps)), data)
    assert trainer.global_step == len(data.steps)
    assert not any(optimizer.state for optimizer in trainer.optimizers)
    assert all(weight.grad is None for weight in model.parameters())
