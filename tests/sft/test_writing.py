"""Checkpoints that are written in a thread: training goes on, and what is on the disk is always whole."""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from short_training import CPU, SendAt, Training

from micota.errors import ConfigError
from micota.sft import checkpoints
from micota.sft.callbacks import StoppedError
from micota.sft.checkpoints import Checkpoints
from micota.sft.sharding import devices
from micota.sft.writing import Writing


class Async(Training):
    """As its parent, with a checkpoint after every second of the 6 steps, in a thread."""

    def __init__(self, folder: Path, *more: Callback, is_async: bool = True) -> None:
        super().__init__(folder, *more)
        self.writing = Writing(is_async=is_async)
        self.callbacks[-1] = self.checkpoints = Checkpoints(folder, 2, "key", sharded=False, writing=self.writing)

    def fit(self) -> None:
        trainer = Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, callbacks=self.callbacks, **devices(CPU, self.writing),
        )  # fmt: skip
        with self.signals.restoring_handlers(), self.writing:
            trainer.fit(self.module, self.data, ckpt_path=self.checkpoints.latest())


class At(Callback):
    """Calls a function before a step."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self.at, self.act = step, act

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.at:
            self.act()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def whole(step: int) -> list[str]:
    return [f"step={step}.ckpt", f"step={step}.ckpt.sums.json"]


class Gate:
    """Halts writes to the disk half way, until it is opened."""

    def __init__(self) -> None:
        self._reached, self._opened = threading.Event(), threading.Event()
        self._write = checkpoints.save_synced

    @property
    def is_open(self) -> bool:
        return self._opened.is_set()

    def save(self, content: Any, path: Any) -> None:
        Path(path).write_text("half")
        self._reached.set()
        assert self._opened.wait(60)
        self._write(content, path)

    def open(self, folder: Path) -> list[str]:
        """Open it once a write has come to it; returns the files in ``folder`` before."""
        assert self._reached.wait(60)
        before = files(folder)
        self._opened.set()
        return before


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr(checkpoints, "save_synced", gate.save)
    return gate


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, gate: Gate) -> None:
    seen: list[list[str]] = []
    Async(tmp_path, At(3, lambda: seen.append(gate.open(tmp_path)))).fit()
    assert seen == [["step=2.ckpt.partial"]], "step 3 ran beside the write of step 2"
    assert files(tmp_path) == whole(6), "the end of training waits"


def assert_equal(left: Any, right: Any) -> None:
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_equal(left[key], right[key])
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_equal(one, other)
    else:
        assert left == right


def test_a_signal_waits_for_the_write_that_runs(tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    join, seen = Writing.join, list[list[str]]()

    def waiting(writing: Writing, *, wait: bool = True) -> None:
        if wait and not gate.is_open:
            seen.append(gate.open(tmp_path))
        join(writing, wait=wait)

    training = Async(tmp_path, SendAt(signal.SIGTERM, 2))
    monkeypatch.setattr(Writing, "join", waiting)
    with pytest.raises(StoppedError, match="after step 3"):
        training.fit()
    assert seen == [["step=2.ckpt.partial"]] and files(tmp_path) == whole(3)


def test_a_resumed_run_has_the_same_bits(tmp_path: Path) -> None:
    undisturbed = Training(tmp_path / "whole")
    undisturbed.fit()
    with pytest.raises(StoppedError, match="after step 4"):
        Async(tmp_path / "stopped", SendAt(signal.SIGTERM, 3)).fit()
    resumed = Async(tmp_path / "stopped")
    resumed.fit()
    assert [step for step, metrics in resumed.seen.rows if "train/loss" in metrics] == [5, 6]
    for value, expected in zip(resumed.module.parameters(), undisturbed.module.parameters(), strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize(("error", "kind", "text"), [
    (OSError(errno.ENOSPC, "No space left on device"), ConfigError, r"step=4.ckpt cannot be written .* free some"),
    (PermissionError(errno.EACCES, "Permission denied", "step"), ConfigError,
     r"step=4.ckpt cannot be written \(Permission denied for step\); make .* a folder that can be written to and run"),
    (OSError(errno.EIO, "Input/output error"), ConfigError, r"step=4.ckpt cannot be written \(.*Input/output error\)"),
    (KeyError("a bug"), KeyError, "a bug"),
    (ValueError("a bug"), ValueError, "a bug"),
])  # fmt: skip
def test_a_failed_write_ends_training_and_the_checkpoint_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], text: str
) -> None:
    write = checkpoints.save_synced

    def save(content: Any, path: Any) -> None:
        if "step=4" in str(path):
            Path(path).write_text("half")
            raise error
        write(content, path)

    monkeypatch.setattr(checkpoints, "save_synced", save)
    training = Async(tmp_path)
    with pytest.raises(kind, match=text):
        training.fit()
    assert set(whole(2)) <= set(files(tmp_path)) and "step=4.ckpt" not in files(tmp_path)
    monkeypatch.undo()
    resumed = Async(tmp_path)
    resumed.fit()
    assert [step for step, metrics in resumed.seen.rows if "train/loss" in metrics] == [3, 4, 5, 6]
    assert files(tmp_path) == whole(6)


def test_another_error_waits_for_the_write(tmp_path: Path, gate: Gate) -> None:
    """Else a thread would go on to write into the folder of the next run."""

    def fail() -> None:
        if not gate.is_open:
            gate.open(tmp_path / "async")
        raise ValueError("planted")

    for name, is_async in (("async", True), ("sync", False)):
        with pytest.raises(ValueError, match="planted"):
            Async(tmp_path / name, At(3, fail), is_async=is_async).fit()
        assert files(tmp_path / name) == whole(2)
    assert_equal(*(torch.load(tmp_path / name / "step=2.ckpt") for name in ("async", "sync")))  # not of step 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("checkpoint")]
