"""The callbacks of training: what is counted as training time, what checkpoints keep, and what a signal does."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from short_training import SendAt, Training
from torch.distributed.checkpoint.api import CheckpointException, _wrap_exception
from torch.utils.data import DataLoader

from micota.errors import ConfigError
from micota.sft.callbacks import StepMetrics, StoppedError
from micota.sft.checkpoints import Checkpoints, check_sums, sum_of_rank
from micota.sft.shape import Shape


def test_every_step_reports_its_loss_and_speed_and_validation_comes_when_due(tmp_path: Path) -> None:
    training = Training(tmp_path, every=4)
    training.fit()
    rows = training.seen.rows
    steps = [step for step, metrics in rows if "train/loss" in metrics]
    assert steps == [1, 2, 3, 4, 5, 6]
    speeds = ("train/tokens_per_s", "train/mfu", "train/peak_memory_bytes")
    assert all(metrics[name] > 0 for _, metrics in rows if "train/loss" in metrics for name in speeds)
    validated = [(step, metrics["validation/loss"]) for step, metrics in rows if "validation/loss" in metrics]
    assert [step for step, _ in validated] == [4, 6]
    assert validated[-1][1] == training.validation.loss
    assert training.module.objective.training, "training goes on in training mode"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_signal_ends_training_after_its_step_with_a_checkpoint_that_goes_on(
    tmp_path: Path, signum: int, request: pytest.FixtureRequest
) -> None:
    before = signal.signal(signal.SIGUSR2, lambda *_: None)  # as in a job of submitit
    request.addfinalizer(lambda: signal.signal(signal.SIGUSR2, before))
    whole = Training(tmp_path / "whole")
    whole.fit()
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    stopped = Training(tmp_path / "stopped", SendAt(signum, 2), every=2)
    with pytest.raises(StoppedError, match="after step 3") as caught:
        stopped.fit()
    assert caught.value.signum == signum
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    names = sorted(path.name for path in (tmp_path / "stopped").iterdir())
    assert names == ["step=3.ckpt", "step=3.ckpt.sums.json"]
    resumed = Training(tmp_path / "stopped")
    resumed.fit()
    assert [step for step, metrics in resumed.seen.rows if "train/loss" in metrics] == [4, 5, 6]
    for value, expected in zip(resumed.module.parameters(), whole.module.parameters(), strict=True):
        assert torch.equal(value, expected)


class TwiceAt(Callback):
    """Sends two interrupts before a step ends, as a user who does not want to wait for it."""

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)


def test_a_second_interrupt_ends_training_at_once_and_not_in_silence(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path, TwiceAt()).fit()
    assert signal.getsignal(signal.SIGINT) == handler


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(("damage", "message"), [
    (flip, "is damaged: it is not what was written"),
    (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is damaged: it is not what was written"),
    (lambda path: path.write_bytes(bytes(path.stat().st_size)), "is damaged: it is not what was written"),
    (lambda path: path.with_name(path.name + ".sums.json").write_text("{"), "sums.json is damaged"),
])  # fmt: skip
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    with pytest.raises(StoppedError):
        Training(tmp_path, SendAt(signal.SIGTERM, 2)).fit()
    damage(tmp_path / "step=3.ckpt")
    with pytest.raises(ConfigError, match=f"step=3.ckpt.*{message}.*delete {tmp_path} and run again"):
        Training(tmp_path).fit()


def test_shards_have_the_sums_of_their_rank(tmp_path: Path) -> None:
    checkpoint = tmp_path / "step=1.ckpt"
    checkpoint.mkdir()
    for name in ("__0_0.distcp", "__1_0.distcp", "__1_1.distcp", ".metadata", "meta.pt"):
        (checkpoint / name).write_text(name)
    for rank in (0, 1):
        sum_of_rank(checkpoint, rank)
    check_sums(checkpoint, 0, 1)
    flip(checkpoint / "__1_1.distcp")
    check_sums(checkpoint, 0, 2)
    with pytest.raises(ConfigError, match=r"__1_1.distcp is damaged"):
        check_sums(checkpoint, 1, 2)
    (checkpoint / ".metadata").unlink()
    with pytest.raises(ConfigError, match="metadata is missing"):
        check_sums(checkpoint, 0, 2)


def test_checkpoints_keep_the_validation_loss(tmp_path: Path) -> None:
    """A run that is killed after its last step reports it when it is run again."""
    first = Training(tmp_path, SendAt(signal.SIGTERM, 5), every=6)
    with pytest.raises(StoppedError, match="after step 6"):
        first.fit()
    again = Training(tmp_path, every=6)
    again.fit()
    assert not again.seen.rows, "no step is left"
    assert again.validation.loss == first.validation.loss
    assert float(again.module.last_loss) == float(first.module.last_loss)


def test_time_in_evaluation_mode_is_not_training_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that advances by 1 s within a step and by 100 s within the validation."""
    clock = [0.0]
    monkeypatch.setattr("micota.sft.callbacks.time.perf_counter", lambda: clock[0])

    class Slow(LightningModule):
        def training_step(self, batch: Any, batch_idx: int) -> dict[str, float]:
            clock[0] += 1.0
            return {"train/loss": 0.0}

        def configure_optimizers(self) -> None:
            return None

    class SlowValidation(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            with metrics.in_eval_mode(trainer, pl_module) as reported:
                clock[0] += 100.0
                reported["validation/loss"] = 0.5

    training = Training(tmp_path)
    module = Slow()
    module.automatic_optimization = False
    metrics = StepMetrics(training.seen, Shape.of(training.module.objective.model), None)
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, callbacks=[metrics, SlowValidation()],
    )  # fmt: skip
    steps = [training.data.sequences[:1]] * 3

    class Batch:
        num_supervised = 7

    trainer.fit(module, DataLoader(steps, batch_size=None, collate_fn=lambda _: Batch()))
    speeds = [row["train/tokens_per_s"] for _, row in training.seen.rows if "train/loss" in row]
    assert speeds == [7.0, 7.0, 7.0]


class Failing:
    """A trainer whose write of a checkpoint fails."""

    is_global_zero = True

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.strategy = self

    def barrier(self) -> None: ...

    def save_checkpoint(self, path: Path) -> None:
        path.write_text("half")
        raise self.error


@pytest.mark.parametrize("error", [
    OSError(errno.ENOSPC, "No space left on device"),
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"),
    CheckpointException("save", {1: _wrap_exception(OSError(errno.EDQUOT, "Disk quota exceeded"))}),
])  # fmt: skip
def test_a_write_without_space_is_one_error(tmp_path: Path, error: BaseException) -> None:
    trainer: Any = Failing(error)
    with pytest.raises(ConfigError, match=r"step=2.ckpt cannot be written .*GiB are free there: free some space"):
        Checkpoints(tmp_path, 1, "key", sharded=False).save(trainer, 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    CheckpointException("save", {1: _wrap_exception(KeyError("a bug"))}),
])  # fmt: skip
def test_any_other_error_of_a_write_stays_what_it_is(tmp_path: Path, error: BaseException) -> None:
    trainer: Any = Failing(error)
    with pytest.raises(type(error)) as caught:
        Checkpoints(tmp_path, 1, "key", sharded=False).save(trainer, 2)
    assert caught.value is error and not list(tmp_path.iterdir())
