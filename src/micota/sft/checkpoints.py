"""Checkpoints: every N steps and when a signal ends training; one file, or a folder with a shard from each rank.

A checkpoint is written beside its place and renamed when it is complete, and only then the one before it goes.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch.distributed.checkpoint.api import CheckpointException

from micota.errors import ConfigError

OWNER = "micota_key"  # in a checkpoint: the key of the artifact that it belongs to


class Checkpoints(Callback):
    """Saves below ``folder`` every ``every`` steps, and after the step in which a callback before it asks to stop.

    ``key`` is that of the artifact: a checkpoint of another one is refused.
    """

    def __init__(self, folder: Path, every: int, key: str, *, sharded: bool) -> None:
        self.folder = folder
        self.every = every
        self.key = key
        self.sharded = sharded

    def latest(self) -> str | None:
        """The checkpoint with the most steps; two are there when a run was killed while it replaced one by the next.

        Raises:
            ConfigError: one process would have to go on from the shards of several, or the other way about.
        """
        found = sorted(self.folder.glob("step=*.ckpt"), key=_step_of)
        if found and found[-1].is_dir() != self.sharded:
            seen, wanted = ("several", "one") if found[-1].is_dir() else ("one", "several")
            raise ConfigError(
                f"{found[-1]} was written by {seen} of trainer.devices, and this run has {wanted}; set trainer.devices "
                f"as before, or delete {self.folder} to start over"
            )
        return str(found[-1]) if found else None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        # A callback before this one has set should_stop for all ranks alike.
        if trainer.should_stop or trainer.global_step % self.every == 0:
            self.save(trainer, trainer.global_step)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[OWNER] = self.key

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if checkpoint.get(OWNER) != self.key:
            raise ConfigError(
                f"{self.folder} holds a checkpoint of another run (key {checkpoint.get(OWNER)}, this is {self.key}); "
                "delete the folder and run again"
            )

    def save(self, trainer: Trainer, step: int) -> None:
        """Write, put into place, and remove what came before.

        Raises:
            ConfigError: it cannot be written, as on a full disk; the checkpoint before it stays.
        """
        final = self.folder / f"step={step}.ckpt"
        draft = final.with_name(final.name + ".partial")
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            _remove(draft)
        trainer.strategy.barrier()  # no rank writes its shard before the folder is there
        try:
            trainer.save_checkpoint(draft)
        except (OSError, RuntimeError, CheckpointException) as error:
            _remove(draft)
            free = shutil.disk_usage(self.folder).free / 2**30
            raise ConfigError(
                f"{final} cannot be written ({error}); {free:.1f} GiB are free there: make room and run the same "
                "command again, which goes on from the checkpoint before it"
            ) from error
        trainer.strategy.barrier()  # all shards are complete before the name says so
        if trainer.is_global_zero:
            # Only now may the one before go: whenever the run is killed, a complete checkpoint is there.
            _remove(final)
            os.replace(draft, final)
            for path in self.folder.iterdir():
                if path != final:
                    _remove(path)

    def remove(self) -> None:
        """Delete all of them, when nothing is left to resume."""
        shutil.rmtree(self.folder, ignore_errors=True)


class StreamedCheckpoints(TorchCheckpointIO):
    """Writes straight to the file, where Lightning would hold all of it in memory first."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with open(path, "wb") as handle:
            torch.save(checkpoint, handle)
            handle.flush()
            os.fsync(handle.fileno())  # on the disk before the rename, or a power cut leaves an empty file of that name


def trained_state(module: torch.nn.Module, state: dict[str, Any]) -> dict[str, Any]:
    """A state dict of a module without its frozen weights, which a run reads from the model that it starts from."""
    frozen = {name for name, w in module.named_parameters(remove_duplicate=False) if not w.requires_grad}
    return {name: values for name, values in state.items() if name not in frozen}


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step="))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
