"""The weights with the best validation, and the end of training that no longer improves on them."""

from __future__ import annotations

import math
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as load_shards
from torch.distributed.checkpoint.state_dict_saver import save as save_shards
from torch.nn import functional

from micota.config import BestConfig
from micota.sft.activations import CHUNK_LOGITS
from micota.sft.callbacks import Validation
from micota.sft.checkpoints import check_sums, sum_of_rank
from micota.sft.write_errors import explaining


class BestWeights(Callback):
    """Keeps the trained weights of the best validation below ``folder``, and stops after ``patience`` worse ones.

    It comes after ``Validation`` and before ``Checkpoints``, which save its state. A resumed run therefore compares
    with the same value, and finds the weights: those of the last two checkpoints are deleted only after the next ones.
    """

    def __init__(self, validation: Validation, best: BestConfig, folder: Path) -> None:
        self.step = 0
        self.value = math.nan
        self.metrics: dict[str, float] = {}
        self._worse = 0
        self._is_over = False
        self._saved: list[int] = []  # best steps in the latest checkpoints, the newest last
        self._validation = validation
        self._best = best
        self._folder = folder

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = self._is_over  # of a run that was killed between its last step and the export

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if self._validation.step != step or not self._validation.is_for_best(step):
            return
        value = self._validation.metrics[f"validation/{self._best.by}"]
        if self._is_better(value):
            self.step, self.value, self._worse = step, value, 0
            self.metrics = dict(self._validation.metrics)
            self._write(trainer, pl_module)
        else:
            self._worse += 1
        if self._best.patience is not None and self._worse >= self._best.patience:
            self._is_over = trainer.should_stop = True

    def _is_better(self, value: float) -> bool:
        gain = self.value - value if self._best.by == "loss" else value - self.value
        return math.isnan(self.value) or gain > self._best.min_change

    def _write(self, trainer: Trainer, module: Any) -> None:
        """Write the trained weights under a temporary name, each rank its part, and rename the folder."""
        final = self._path(self.step)
        draft = final.with_name(final.name + ".partial")
        if trainer.is_global_zero:
            shutil.rmtree(draft, ignore_errors=True)
            self._folder.mkdir(parents=True, exist_ok=True)
        trainer.strategy.barrier()
        with _one_process_is_fine(), explaining(final, partial(shutil.rmtree, draft, ignore_errors=True)):
            save_shards(_weights(module), checkpoint_id=draft)
            sum_of_rank(draft, trainer.global_rank)
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            shutil.rmtree(final, ignore_errors=True)
            os.replace(draft, final)
            for path in self._folder.iterdir():
                if path not in map(self._path, [self.step, *self._saved]):
                    shutil.rmtree(path)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the best weights. No step comes after them, and checkpoints are written already."""
        if self.step not in (0, trainer.global_step):
            weights = _weights(pl_module)
            check_sums(self._path(self.step), trainer.global_rank, trainer.world_size)
            with _one_process_is_fine():
                load_shards(weights, checkpoint_id=self._path(self.step))
            pl_module.load_state_dict(weights, strict=False)

    def _path(self, step: int) -> Path:
        return self._folder / f"step={step}"

    def state_dict(self) -> dict[str, Any]:
        # Of two, since a checkpoint may be incomplete when the run is killed, and then the one before it counts.
        self._saved = [*self._saved, self.step][-2:]
        names = ("step", "value", "metrics", "_worse", "_is_over")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)
        self._saved = [self.step]


@contextmanager
def _one_process_is_fine() -> Iterator[None]:
    """torch warns that it saves or loads without a process group."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _weights(module: torch.nn.Module) -> dict[str, Any]:
    """The trained weights by name, without buffers; of a sharded model this rank's parts."""
    trained = {name for name, weight in module.named_parameters(remove_duplicate=False) if weight.requires_grad}
    return {name: value for name, value in get_model_state_dict(module).items() if name in trained}


def num_right(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    divisor: float,
    *,
    bias: torch.Tensor | None = None,
    cap: float | None = None,
) -> torch.Tensor:
    """The number of labels that are the most likely token, over ``divisor``; arguments as of ``losses.summed_nll``.

    A bound of the logits (``cap``) keeps their order.
    """
    rows = max(1, CHUNK_LOGITS[hidden.device.type] // len(weight))
    total = torch.zeros((), device=hidden.device)
    for start in range(0, len(labels), rows):
        part, targets = hidden[start : start + rows], labels[start : start + rows]
        logits = functional.linear(part, weight.to(part.dtype), None if bias is None else bias.to(part.dtype))
        total += (logits.argmax(dim=-1) == targets).sum()
    return total / divisor
