"""Checkpoints: every N steps and when a signal ends training; one file, or a folder with a shard from each rank.

A checkpoint is written under a temporary name and renamed when it is complete. Only then the previous one is deleted.
With ``trainer.async_checkpoints`` all of it happens in a thread beside the next steps (:mod:`micota.sft.writing`). The
next checkpoint, and the end of training, wait for it. Its error ends training after the step at which it is seen.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from micota.artifacts.jsonl import sync_folder, write_text
from micota.artifacts.quick_sums import changed, sum_of_file, write_sums
from micota.errors import ConfigError
from micota.sft.resharding import whole_checkpoint
from micota.sft.shards import loading
from micota.sft.write_errors import explaining
from micota.sft.writing import Writing, save_synced

SUMS = "{}.sums.json"  # of a checkpoint: of each rank in its folder, or beside its one file
SHARD = re.compile(r"__(\d+)_(\d+\.distcp|states\.pt)")  # of a rank: torch.distributed.checkpoint's, rank_states'
OWNER = "micota_key"  # in a checkpoint: the key of its artifact


class Checkpoints(Callback):
    """Saves below ``folder`` every ``every`` steps, and after a step in which an earlier callback stops training.

    ``key`` is the key of the artifact: a checkpoint of another artifact is refused.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        key: str,
        *,
        sharded: bool,
        converts: bool = True,
        last: int | None = None,
        writing: Writing | None = None,
    ) -> None:
        """``last``: the last step of the run, after which a checkpoint is written too.

        ``converts``: a checkpoint of one process can be read by several, and the other way round. ``writing`` is by
        default within a step.
        """
        self.folder = folder
        self.every = every
        self.key = key
        self.sharded = sharded
        self._converts = converts
        self._last = last
        self._start: Path | None = None
        self._owners = {key}
        self.writing = writing or Writing(is_async=False)
        self._final: Path | None = None  # of the checkpoint that is written

    def of_shorter(self, folder: Path, key: str) -> str:
        """The checkpoint of a finished run, whose artifact is in ``folder`` and has this key.

        Raises:
            ConfigError: there is none, or the number of processes differs.
        """
        shorter = Checkpoints(folder / self.folder.name, self.every, key, sharded=self.sharded, converts=self._converts)
        if (path := shorter.latest()) is None:
            raise ConfigError(
                f"trainer.continue_from={folder} has no checkpoint; accepted: a model that was trained with "
                "trainer.keep_checkpoint=true"
            )
        self._owners.add(key)
        self._start = Path(path)
        return path

    def latest(self) -> str | None:
        """The checkpoint with the most steps; a run that was killed while it replaced one leaves two.

        Raises:
            ConfigError: with moments of 8 bits one CPU process cannot resume from shards, nor several from one file.
        """
        paths = sorted(self.folder.glob("step=*.ckpt"), key=_step_of)
        self._start = paths[-1] if paths else None
        if paths and paths[-1].is_dir() != self.sharded and not self._converts:
            seen, wanted = ("in shards", "one file") if paths[-1].is_dir() else ("one file", "shards")
            raise ConfigError(
                f"{paths[-1]} is {seen}, and this run writes {wanted}: a GPU or several processes have shards, and one "
                "process on a CPU has a file, and moments of 8 bits (sft.optimizer) are not converted; set "
                "trainer.accelerator and trainer.devices as before, or delete "
                f"{self.folder} to start over"
            )
        return str(paths[-1]) if paths else None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare the checkpoint to resume from with its sums, each rank a part, before it is loaded.

        Raises:
            ConfigError: it is damaged.
        """
        if self._start is None:
            return
        check_sums(self._start, trainer.global_rank, trainer.world_size)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.join(wait=False)
        # A callback before this one has set should_stop for all ranks alike.
        if trainer.should_stop or trainer.global_step % self.every == 0 or trainer.global_step == self._last:
            self.save(trainer, trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.join()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[OWNER] = self.key

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if checkpoint.get(OWNER) not in self._owners:
            raise ConfigError(
                f"{self.folder} holds a checkpoint of another run (key {checkpoint.get(OWNER)}, this is {self.key}); "
                "delete the folder and run again"
            )
        if checkpoint[OWNER] != self.key:
            # Lightning would take the end of the shorter run for the end of this one.
            checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False

    def save(self, trainer: Trainer, step: int) -> None:
        """Write a checkpoint, rename it, and delete the previous one; or begin to, after the end of the last write.

        Raises:
            ConfigError: the disk is full, here or in the last write; the checkpoint before that stays.
        """
        self.join()
        final = self._final = self.folder / f"step={step}.ckpt"
        draft = _draft_of(final)
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            _remove(draft)
        trainer.strategy.barrier()  # no rank writes its shard before the folder exists
        with explaining(final, partial(_remove, draft)):
            trainer.save_checkpoint(draft)
            self.writing.run(partial(self._complete, trainer, final))

    def join(self, *, wait: bool = True) -> None:
        """Raise the error of a write in the thread that has failed; with ``wait`` wait for its end."""
        if self._final is not None:
            with explaining(self._final, partial(_remove, _draft_of(self._final))):
                self.writing.join(wait=wait)

    def _complete(self, trainer: Trainer, final: Path) -> None:
        draft = _draft_of(final)
        if self.sharded:
            sum_of_rank(draft, trainer.global_rank)
        self.writing.barrier(trainer.strategy.barrier)  # all shards are complete before the rename
        if trainer.is_global_zero:
            # Delete the previous one only now: whenever the run is killed, a complete checkpoint exists.
            _remove(final)
            if not self.sharded:
                write_text(_sums_beside(final), json.dumps({final.name: sum_of_file(draft)}) + "\n")
            os.replace(draft, final)
            sync_folder(self.folder)
            for path in self.folder.iterdir():
                if path not in (final, _sums_beside(final)):
                    _remove(path)


class StreamedCheckpoints(TorchCheckpointIO):
    """Writes to the file directly; Lightning would build it in memory first. Reads shards of several processes too."""

    def __init__(self, writing: Writing) -> None:
        super().__init__()
        self._writing = writing

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        if Path(path).is_dir():
            return whole_checkpoint(Path(path))
        with loading(Path(path)):
            checkpoint: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only=True)
        return checkpoint

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        self._writing.run(partial(save_synced, self._writing.copied(checkpoint), path))


def _sums_beside(checkpoint: Path) -> Path:
    """The file with the sum of a checkpoint that is one file."""
    return checkpoint.with_name(checkpoint.name + SUMS.format(""))


def check_sums(checkpoint: Path, rank: int, num_ranks: int) -> None:
    """Compare a checkpoint, or the part of one rank, with its sums. One of an earlier version has none.

    Raises:
        ConfigError: it is damaged.
    """
    files = sorted(checkpoint.glob(SUMS.format("*"))) if checkpoint.is_dir() else [_sums_beside(checkpoint)]
    for file in files[rank::num_ranks]:
        if file.exists() and (problem := changed(file)) is not None:
            raise ConfigError(f"{problem}; delete {checkpoint.parent} and run again, which starts over")


def sum_of_rank(folder: Path, rank: int) -> None:
    """Write the sums of the shards that one rank has written; the first rank also those of all other files."""
    files = [path for path in folder.rglob("*") if path.is_file() and SUMS.format("") not in path.name]
    mine = [path for path in files if (int(found[1]) if (found := SHARD.match(path.name)) else 0) == rank]
    write_sums(folder / SUMS.format(f"rank{rank}"), mine)


def _draft_of(final: Path) -> Path:
    """The name of a checkpoint while it is written."""
    return final.with_name(final.name + ".partial")


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step="))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
