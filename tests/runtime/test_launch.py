"""What a rank fails at reaches the command that started it: a bug with its traceback, a user's error as one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from micota import graph
from micota.artifacts.store import Store
from micota.errors import ChildError, StageError, UserError
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
     ["training process 1 ended with exit code 1:", "Traceback (most recent call last)", "ValueError: planted"]),
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
