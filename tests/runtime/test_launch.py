"""What a rank fails at reaches the command that started it: a bug with its traceback, a user's error as one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fork_server
import pytest

from micota import graph
from micota.artifacts.store import Store
from micota.errors import ChildError, MachineError, StageError, UserError
from micota.runtime.launch import launch

Composed = Callable[..., Any]
RANK = """
import os, signal
from micota.errors import ConfigError
from micota.runtime.launch import run_rank

def fit(work, events):
    if os.environ["RANK"] == "1":
        {mistake}

if __name__ == "__main__":
    run_rank(fit)
"""


LOSE_PEER = """
import os, signal
from pathlib import Path
from micota.runtime.launch import run_rank

def fit(work, events):
    pid_file = work.build.path / "pid"
    if os.environ["RANK"] == "1":
        pid_file.with_suffix(".draft").write_text(str(os.getpid()))
        pid_file.with_suffix(".draft").rename(pid_file)
        os.kill(os.getpid(), signal.SIGKILL)
    while not pid_file.exists() or Path(f"/proc/{pid_file.read_text()}").exists():
        pass
    raise RuntimeError("Connection closed by peer")

if __name__ == "__main__":
    run_rank(fit)
"""


@pytest.fixture(autouse=True)
def _ranks_are_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    fork_server.start_ranks(monkeypatch)


class Silent:
    def begin(self, total: int) -> None: ...

    def step(self, metrics: Any, step: int) -> None: ...


def run_ranks(composed: Composed, folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    (folder / "planted_rank.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    config = composed("train", "experiment=tiny", "data=strong", "trainer.devices=2", f"artifacts={folder}")
    node = graph.trained(config, "student")
    with Store(folder).build(node, seed=0) as build:
        assert build is not None
        launch(config, node, build, Silent(), "planted_rank")


@pytest.mark.parametrize(("mistake", "kind", "texts"), [
    ("raise ValueError('planted')", ChildError,
     ["training process 1 failed before the others:", "Traceback (most recent call last)", "ValueError: planted"]),
    pytest.param("raise ConfigError('sft.x=1; accepted: 2')", StageError, ["sft.x=1; accepted: 2"],
                 marks=pytest.mark.slow),
    pytest.param("os.kill(os.getpid(), signal.SIGKILL)", StageError, ["training process 1 was killed by signal 9"],
                 marks=pytest.mark.slow),
], ids=["bug", "mistake", "killed"])  # fmt: skip
def test_the_failure_of_a_rank_is_that_of_the_command(
    composed: Composed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mistake: str,
    kind: type[Exception],
    texts: list[str],
) -> None:
    with pytest.raises(kind) as caught:
        run_ranks(composed, tmp_path, monkeypatch, RANK.format(mistake=mistake))
    for text in texts:
        assert text in str(caught.value)
    if issubclass(kind, UserError):
        assert "\n" not in str(caught.value)


def test_ranks_that_lost_a_killed_one_do_not_hide_it(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch raises a RuntimeError in ranks whose peer is gone."""
    with pytest.raises(StageError, match="training process 1 was killed by signal 9; is memory short"):
        run_ranks(composed, tmp_path, monkeypatch, LOSE_PEER)


FAIL_WITH_PEERS = """
import os, torch
from pathlib import Path
from torch import distributed
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset
from micota.config import TrainerConfig
from micota.runtime.launch import run_rank
from micota.sft import failures
from micota.sft.failures import RecordFailure
from micota.sft.sharding import devices

failures.PATIENCE_S = 1

class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Linear(1, 1)
        self.automatic_optimization = False

    def configure_model(self):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters())

    def training_step(self, batch, index):
        if os.environ["RANK"] == "1":
            {mistake}
        distributed.all_reduce(torch.zeros(1))


class Ends(Callback):
    # What Lightning does after an exception, before the process can end.

    def on_exception(self, *_):
        {end}

def fit(work, events):
    config = TrainerConfig(name="cpu", accelerator="cpu", precision="32-true", devices=2)
    Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, callbacks=[RecordFailure(), Ends()],
        **devices(config),
    ).fit(Module(), DataLoader(TensorDataset(torch.zeros(2, 1)), batch_size=1))

if __name__ == "__main__":
    run_rank(fit)
"""
TOO_MUCH = "torch.empty(1 << 50)"
STUCK = "if os.environ['RANK'] == '1': import threading; threading.Event().wait()"  # as in a collective call


def fail_with_peers(mistake: str, end: str = "pass") -> str:
    return FAIL_WITH_PEERS.replace("{mistake}", mistake).replace("{end}", end)


def test_the_rank_that_fails_first_is_reported_although_its_peer_ends_before_it(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer loses it in a collective call, while it still frees what it held."""
    slow = (
        "if os.environ['RANK'] == '1': "
        "distributed.destroy_process_group(); [torch.randn(900, 900) @ torch.randn(900, 900) for _ in range(40)]"
    )
    with pytest.raises(ChildError) as caught:
        run_ranks(composed, tmp_path, monkeypatch, fail_with_peers("raise ValueError('planted')", slow))
    assert "training process 1 failed before the others" in str(caught.value)
    assert str(caught.value).endswith("ValueError: planted")


def test_full_memory_names_the_rank_and_the_keys_that_help(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MachineError) as caught:
        run_ranks(composed, tmp_path, monkeypatch, fail_with_peers(TOO_MUCH))
    text = str(caught.value)
    assert "the memory of the device of rank 1 is full" in text and "can't allocate memory" in text
    assert "trainer.pack_length=" in text and "trainer.activation_checkpointing=full" in text and "\n" not in text


def test_a_failed_rank_that_hangs_ends_all_the_same(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Freeing memory waits for kernels, and those for peers; the error of the rank is reported nevertheless."""
    with pytest.raises(MachineError, match=r"memory of the device of rank 1 is full .*trainer\.pack_length="):
        run_ranks(composed, tmp_path, monkeypatch, fail_with_peers(TOO_MUCH, STUCK))
