"""The best weights and early stopping, against a run that records every step."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from short_training import CPU, Fitted, SendAt
from transformers import LlamaConfig
from transformers.models.auto import AutoModelForCausalLM

from micota.config import BestConfig, SftConfig, TrainerConfig
from micota.sft import activations
from micota.sft.best import BestWeights, num_right
from micota.sft.callbacks import StepMetrics, StopOnSignal, StoppedError, Validation
from micota.sft.checkpoints import Checkpoints
from micota.sft.data import SftDataModule
from micota.sft.losses import Objective
from micota.sft.module import SftModule
from micota.sft.packing import Tokens
from micota.sft.shape import Shape

Weights = dict[str, torch.Tensor]


def sft(**best: Any) -> SftConfig:
    settings = BestConfig(**best)
    return SftConfig(learning_rate=3e-2, batch_size=4, epochs=6, validation_fraction=0.25, best=settings)


def weights_of(module: Any) -> Weights:
    return {name: values.detach().clone() for name, values in module.named_parameters()}


class Record(Callback):
    """The weights and metrics after every step."""

    def __init__(self, validation: Validation) -> None:
        self.validation = validation
        self.weights: dict[int, Weights] = {}
        self.metrics: dict[int, dict[str, float]] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.weights[trainer.global_step] = weights_of(pl_module)
        self.metrics[trainer.global_step] = dict(self.validation.metrics)


class Silent:
    def begin(self, total: int) -> None: ...

    def step(self, metrics: Mapping[str, float], step: int) -> None: ...


class Run(Fitted):
    """16 examples of random tokens, of which 4 validate: 3 steps an epoch. A model that learns them by heart."""

    def __init__(self, folder: Path, settings: SftConfig, *more: Callback, every: int | None = None) -> None:
        torch.manual_seed(0)
        torch.set_num_threads(1)
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
        model: Any = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=12, **sizes))
        generator = torch.Generator().manual_seed(3)
        rows = [Tokens(ids=torch.randint(0, 12, (9,), generator=generator).tolist(), num_prompt=2) for _ in range(16)]
        self.rows = rows
        self.data = SftDataModule(rows, settings, CPU, seed=0)
        self.module = SftModule(Objective(model), settings, CPU, len(self.data.steps))
        metrics = StepMetrics(Silent(), Shape.of(model), None)
        self.validation = Validation(metrics, self.data, every, settings.best)
        self.record = Record(self.validation)
        self.best = BestWeights(self.validation, settings.best, folder / "best")
        self.signals = StopOnSignal()
        self.checkpoints = Checkpoints(folder / "checkpoints", 4, "key", sharded=False)
        best = [self.best] if settings.best.by != "none" else []
        self.callbacks = [metrics, self.validation, self.record, *best, *more, self.signals, self.checkpoints]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("whole"), sft(), every=1).fit()


def assert_same(left: Weights, right: Weights) -> None:
    assert all(torch.equal(left[name], right[name]) for name in right)


def test_the_best_weights_of_the_ends_of_epochs_are_left(whole: Run, tmp_path: Path) -> None:
    losses = {step: whole.record.metrics[step]["validation/loss"] for step in range(3, 19, 3)}
    expected = min(losses, key=losses.__getitem__)
    assert 3 <= expected < 18, "it is learnt by heart before the end"
    run = Run(tmp_path, sft(by="loss")).fit()
    assert max(run.record.weights) == 18
    assert (run.best.step, run.best.value) == (expected, losses[expected])
    assert run.best.metrics == {"validation/loss": losses[expected]}
    assert_same(weights_of(run.module), whole.record.weights[expected])


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_training_ends_after_worse_validations(whole: Run, tmp_path: Path, patience: int) -> None:
    best, worse, expected = float("inf"), 0, 0
    for step in range(1, 19):
        loss = whole.record.metrics[step]["validation/loss"]
        best, worse, expected = (loss, 0, step) if loss < best - 0.01 else (best, worse + 1, expected)
        if worse == patience:
            break
    run = Run(tmp_path, sft(by="loss", every=1, patience=patience, min_change=0.01)).fit()
    assert max(run.record.weights) == step < 18 and run.best.step == expected
    assert_same(weights_of(run.module), whole.record.weights[expected])
    again = Run(tmp_path, sft(by="loss", every=1, patience=patience, min_change=0.01)).fit()
    assert not again.record.weights, "a run that was killed before its export takes no further step"
    assert_same(weights_of(again.module), whole.record.weights[expected])


@pytest.mark.parametrize("stop", range(2, 12, 3))
def test_a_stopped_run_goes_on_to_the_same_best(tmp_path: Path, stop: int) -> None:
    settings = sft(by="loss", every=2, patience=4)
    undisturbed = Run(tmp_path / "undisturbed", settings).fit()
    with pytest.raises(StoppedError):
        Run(tmp_path / "stopped", settings, SendAt(signal.SIGTERM, stop)).fit()
    resumed = Run(tmp_path / "stopped", settings).fit()
    assert (resumed.best.step, resumed.best.value) == (undisturbed.best.step, undisturbed.best.value)
    assert max(resumed.record.weights, default=stop + 1) == max(undisturbed.record.weights)
    assert_same(weights_of(resumed.module), weights_of(undisturbed.module))


def test_a_killed_run_finds_the_best_of_its_last_checkpoint(tmp_path: Path) -> None:
    """Better weights that came after the checkpoint are found again by the resumed run, and not lost with it."""

    class Killed(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == 7:
                raise KeyboardInterrupt

    settings = sft(by="loss", every=1)
    undisturbed = Run(tmp_path / "undisturbed", settings).fit()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        Run(tmp_path / "killed", settings, Killed()).fit()
    assert [path.name for path in (tmp_path / "killed" / "checkpoints").glob("*.ckpt")] == ["step=4.ckpt"]
    resumed = Run(tmp_path / "killed", settings).fit()
    assert resumed.best.step == undisturbed.best.step
    assert_same(weights_of(resumed.module), weights_of(undisturbed.module))
    assert len([*(tmp_path / "killed" / "best").iterdir()]) <= 3


def test_accuracy_is_the_share_of_tokens_that_are_most_likely(tmp_path: Path) -> None:
    run = Run(tmp_path, sft(by="accuracy", every=1)).fit()
    values = {step: metrics["validation/accuracy"] for step, metrics in run.record.metrics.items()}
    assert run.best.step == max(values, key=lambda step: (values[step], -step))
    right = count = 0
    model = run.module.objective.model.eval()
    for index in (index for step in run.data.validation_steps for index in step):
        ids = torch.tensor([run.rows[index].ids])
        predicted = model(ids).logits[0, 1:-1].argmax(-1)
        right, count = right + int((predicted == ids[0, 2:]).sum()), count + len(predicted)
    assert run.best.value == pytest.approx(right / count)


def test_right_tokens_are_counted_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(7, 5, generator=generator), torch.randn(11, 5, generator=generator)
    bias = torch.randn(11, generator=generator)
    labels = (hidden @ weight.T + bias).argmax(-1)
    labels[2] = (labels[2] + 1) % 11
    monkeypatch.setitem(activations.CHUNK_LOGITS, "cpu", 22)
    assert float(num_right(hidden, weight, labels, 2.0, bias=bias)) == 3.0


@pytest.mark.parametrize(("settings", "complaint"), [
    (BestConfig(patience=2), "patience=2 with by=none; accepted: by=loss or by=accuracy with it"),
    (SftConfig(learning_rate=1, batch_size=1, epochs=1, best=BestConfig(by="loss")), "without validation examples"),
    (TrainerConfig(name="x", accelerator="cpu", precision="32-true", keep_models=2), "without save_model_every"),
])  # fmt: skip
def test_what_does_not_apply_is_refused(settings: Any, complaint: str) -> None:
    [line] = settings.conflicts()
    assert complaint in line
