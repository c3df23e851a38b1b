"""Lightning callbacks around the optimiser steps: metrics and speed, validation, and stopping on a signal.

:mod:`micota.sft.checkpoints` has the callback that saves checkpoints, :mod:`micota.sft.eval_during_training` the one
that evaluates. Lightning runs them in the order of the list in :func:`micota.sft.fit.fit`.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import distributed

from micota.config import BestConfig
from micota.sft.data import SftDataModule, Step
from micota.sft.device import peak_memory_bytes
from micota.sft.progress import Progress
from micota.sft.shape import Shape


def stop_signals() -> list[signal.Signals]:
    """The signals at which training stops: SIGTERM, SIGINT, and in a job of submitit the one with which SLURM announces
    the end of its time or a preemption; submitit then puts the job back into the queue."""
    requeue = [signal.SIGUSR2] if callable(signal.getsignal(signal.SIGUSR2)) else []
    return [signal.SIGTERM, signal.SIGINT, *requeue]


def sum_over_ranks(value: torch.Tensor) -> torch.Tensor:
    """The sum of a scalar over all ranks, every rank must call this function. Overwrites ``value``."""
    if _is_distributed():
        distributed.all_reduce(value)
    return value


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


class StepMetrics(Callback):
    """Reports loss, gradient norm, learning rate, speed and memory of every step, and the metrics of other callbacks.

    The time of a step includes its data and its checkpoint, and excludes what runs within :meth:`in_eval_mode`.

    Args:
        shape: shape of the model, for the share of the peak FLOP/s (MFU).
        peak_flops: FLOP/s of one device; None if unknown, which omits MFU.
    """

    def __init__(self, progress: Progress, shape: Shape, peak_flops: float | None) -> None:
        self._progress = progress
        self._shape = shape
        self._peak_flops = peak_flops
        self._began = math.nan

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Step, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        speed = self._speed(batch, now - self._began, trainer.world_size)
        self._progress.step(outputs | speed, trainer.global_step)
        self._began = now

    def _speed(self, batch: Step, seconds: float, world_size: int) -> dict[str, float]:
        # Supervised tokens of all ranks, without prompts and padding.
        metrics = {"train/tokens_per_s": batch.num_supervised / seconds}
        if self._peak_flops is not None:
            # Model FLOPs utilisation (PaLM, arXiv 2204.02311, appendix B): needed FLOP/s over the peak of all devices.
            flops = self._shape.flops(batch.lengths, batch.num_supervised)
            metrics["train/mfu"] = flops / seconds / (self._peak_flops * world_size)
        return metrics | {"train/peak_memory_bytes": float(peak_memory_bytes())}

    @contextmanager
    def in_eval_mode(self, trainer: Trainer, pl_module: LightningModule) -> Iterator[dict[str, float]]:
        """Put the model into evaluation mode, and report the metrics that the block adds to the dict."""
        began = time.perf_counter()
        metrics: dict[str, float] = {}
        pl_module.eval()
        yield metrics
        pl_module.train()
        self._progress.step(metrics, trainer.global_step)
        self._began += time.perf_counter() - began  # as if the step began later


class Validation(Callback):
    """Computes the loss of the validation examples every ``every`` steps, where ``best`` needs it, and after the last
    step, in nats per token; with ``best.by=accuracy`` also the share of tokens that are the most likely ones.

    ``metrics`` are the latest and ``step`` is theirs. Checkpoints save them: a run may be killed after its last step.
    """

    def __init__(
        self, metrics: StepMetrics, data: SftDataModule, every: int | None, best: BestConfig | None = None
    ) -> None:
        self.step = 0
        self.metrics: dict[str, float] = {}
        self._reports = metrics
        self._data = data
        self._every = every
        self._best = best or BestConfig()

    @property
    def loss(self) -> float:
        """The latest loss; NaN before the first."""
        return self.metrics.get("validation/loss", math.nan)

    def is_for_best(self, step: int) -> bool:
        """Whether the best weights may be those after this step."""
        every = self._best.every or self._data.epoch_steps
        return self._best.by != "none" and (step % every == 0 or step == len(self._data.steps))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        step = trainer.global_step
        is_due = step == len(self._data.steps) or (self._every is not None and step % self._every == 0)
        if (is_due or self.is_for_best(step)) and self._data.validation_steps:
            with self._reports.in_eval_mode(trainer, pl_module) as reported:
                self.step, self.metrics = step, {"validation/loss": self._mean(trainer, pl_module)}
                if self._best.by == "accuracy":
                    with pl_module.counting_right_tokens():  # type: ignore[operator]
                        self.metrics["validation/accuracy"] = self._mean(trainer, pl_module)
                reported.update(self.metrics)

    @torch.no_grad()
    def _mean(self, trainer: Trainer, pl_module: Any) -> float:
        """Sum over tokens divided by their number, so that the result does not depend on the batches."""
        total, count = torch.zeros((), device=trainer.strategy.root_device), 0
        for step in self._data.validation():
            for micro_batch in step.micro_batches:
                total += pl_module.loss(micro_batch, 1.0)
            count += step.num_supervised
        return float(sum_over_ranks(total) / count)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.step, self.metrics = state_dict["step"], state_dict["metrics"]


class StoppedError(Exception):
    """A signal ended training, and a checkpoint is saved."""

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after step {step}")
        self.signum, self.step = signum, step


class StopOnSignal(Callback):
    """On a stop signal, stops Lightning after the current step; ``Checkpoints``, which runs next, saves.

    A second signal goes to the previous handler.
    """

    def __init__(self) -> None:
        self._signum = 0
        self._stopped: StoppedError | None = None
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Only now: Lightning sets its handlers just before, and they would end the run within a step.
        if threading.current_thread() is threading.main_thread():
            self._handlers = {signum: signal.signal(signum, self._note) for signum in stop_signals()}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if signum := self._of_any_rank(trainer.strategy.root_device):
            self._stopped = StoppedError(signum, trainer.global_step)
            trainer.should_stop = True

    def _note(self, signum: int, _frame: Any) -> None:
        self._signum = signum
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _of_any_rank(self, device: torch.device) -> int:
        """The signal that any rank received, or 0: all ranks must stop after the same step and save one checkpoint."""
        if not _is_distributed():
            return self._signum
        seen = torch.tensor(self._signum, device=device)
        distributed.all_reduce(seen, op=distributed.ReduceOp.MAX)
        return int(seen)

    @contextmanager
    def restoring_handlers(self) -> Iterator[None]:
        """Wrap ``Trainer.fit`` and restore the previous handlers, however training ends.

        Raises:
            StoppedError: a signal ended training.
        """
        before = {signum: signal.getsignal(signum) for signum in stop_signals()}
        try:
            yield
        except SystemExit as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # Lightning turns it into an exit without a word
                raise KeyboardInterrupt("interrupted before the end of a step") from None
            raise
        finally:
            if threading.current_thread() is threading.main_thread():
                for signum, handler in before.items():
                    signal.signal(signum, handler)
        if self._stopped is not None:
            raise self._stopped
