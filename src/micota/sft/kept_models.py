"""Models that are written during training, beside the last one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from micota.artifacts.quick_sums import changed, write_sums
from micota.errors import ConfigError

SUMS = ".sums.json"  # in the folder of a model


class KeptModels(Callback):
    """Writes the model as it is every ``every`` steps, as ``step=N`` below ``folder``, and keeps the newest ``keep``.

    Args:
        write: writes the model into a folder; every rank calls it.
        keep: None keeps all.
    """

    def __init__(self, folder: Path, every: int, keep: int | None, write: Callable[[Path], None]) -> None:
        self._folder = folder
        self._every = every
        self._keep = keep
        self._write = write

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare the models of a killed run with their sums, each rank a part of them.

        Raises:
            ConfigError: one is damaged.
        """
        for path in self._written()[trainer.global_rank :: trainer.world_size]:
            if (path / SUMS).exists() and (problem := changed(path / SUMS)) is not None:
                raise ConfigError(f"{problem}; delete {self._folder.parent} and run again, which starts over")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if step % self._every:
            return
        final = self._folder / f"step={step}"
        draft = final.with_name(final.name + ".partial")
        if trainer.is_global_zero:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
        trainer.strategy.barrier()
        self._write(draft)
        if trainer.is_global_zero:
            write_sums(draft / SUMS, [file for file in sorted(draft.rglob("*")) if file.is_file()])
            shutil.rmtree(final, ignore_errors=True)  # of the same step, before the run was killed
            os.replace(draft, final)
            for path in self._written()[: -self._keep] if self._keep is not None else []:
                shutil.rmtree(path)

    def _written(self) -> list[Path]:
        """The folders of models, by step."""
        paths = [path for path in self._folder.glob("step=*") if not path.name.endswith(".partial")]
        return sorted(paths, key=lambda path: int(path.name.removeprefix("step=")))
