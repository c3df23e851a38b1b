"""A training of a few steps in this process, with the callbacks of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from lightning.pytorch import Callback, Trainer
from transformers import LlamaConfig
from transformers.models.auto import AutoModelForCausalLM

from micota.config import SftConfig, TrainerConfig
from micota.sft.callbacks import StepMetrics, StopOnSignal, Validation
from micota.sft.checkpoints import Checkpoints
from micota.sft.data import SftDataModule
from micota.sft.losses import Objective
from micota.sft.module import SftModule
from micota.sft.packing import Tokens
from micota.sft.shape import Shape

SFT = SftConfig(learning_rate=1e-2, batch_size=4, epochs=2, validation_fraction=0.25)
CPU = TrainerConfig(name="cpu", accelerator="cpu", precision="32-true", pack_length=40)


class Seen:
    """Progress that keeps what it receives, as pairs of step and metrics."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []

    def begin(self, total: int) -> None: ...

    def step(self, metrics: Mapping[str, float], step: int) -> None:
        self.rows.append((step, dict(metrics)))


class SendAt(Callback):
    """Sends a signal to this process within a step."""

    def __init__(self, signum: int, step: int) -> None:
        self.signum, self.at = signum, step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.at:
            os.kill(os.getpid(), self.signum)


class Fitted:
    """What a training needs to run, and to go on from its latest checkpoint."""

    module: SftModule
    data: SftDataModule
    callbacks: list[Callback]
    signals: StopOnSignal
    checkpoints: Checkpoints

    def fit(self) -> Self:
        trainer = Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, callbacks=self.callbacks,
        )  # fmt: skip
        with self.signals.restoring_handlers():
            trainer.fit(self.module, self.data, ckpt_path=self.checkpoints.latest())
        return self


class Training(Fitted):
    """A small model, its data and callbacks; 16 examples, of which 4 validate, make 6 steps."""

    def __init__(self, folder: Path, *more: Callback, every: int | None = None) -> None:
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
        model: Any = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=32, **sizes))
        self.seen = Seen()
        self.data = SftDataModule([Tokens(ids=[2 + i, 3, 4, 1], num_prompt=2) for i in range(16)], SFT, CPU, seed=0)
        self.module = SftModule(Objective(model), SFT, CPU, len(self.data.steps))
        metrics = StepMetrics(self.seen, Shape.of(model), peak_flops=1e12)
        self.validation = Validation(metrics, self.data, every)
        self.signals = StopOnSignal()
        self.checkpoints = Checkpoints(folder, 1000, "key", sharded=False)
        self.callbacks = [metrics, self.validation, *more, self.signals, self.checkpoints]
