"""A checkpoint that one of two ranks cannot write ends training with one line, and no half of it passes for a whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from training import Prepared, fitted

from micota.config import Config
from micota.errors import StageError

# Python imports this module at its start: a rank refuses to open a file for writing, as a disk or its rights would.
REFUSES = """
import os, sys
from pathlib import Path

RANK, PART, NUMBER, NOTE = {rank!r}, {part!r}, {number}, {note!r}

def refuse(event, arguments):
    path, mode = map(str, arguments[:2]) if event == "open" else ("", "")
    if "w" in mode and PART in path and "step=4.ckpt" in path:
        Path(NOTE).touch()
        raise OSError(NUMBER, os.strerror(NUMBER), path)

if os.environ.get("RANK") == RANK:
    sys.addaudithook(refuse)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "part", "number", "remedy", "is_async"), [
    ("1", "__1_0.distcp", errno.ENOSPC, "free some space", True),  # of all ranks together
    ("1", "rank1.sums.json", errno.EACCES, "a folder that can be written to", True),  # while the other waits for it
    ("0", "meta.pt", errno.ENOSPC, "free some space", True),
    ("1", "rank1.sums.json", errno.EACCES, "a folder that can be written to", False),
])  # fmt: skip
def test_a_writer_that_fails_on_one_of_two_ranks_ends_training_in_one_line(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    rank: str, part: str, number: int, remedy: str, is_async: bool,
) -> None:  # fmt: skip
    options = ["trainer.devices=2", "trainer.checkpoint_every=2", f"trainer.async_checkpoints={is_async}"]
    config, note = prepared(*options, "student.sft.max_steps=9"), tmp_path / "note"
    (tmp_path / "hook").mkdir()
    hook = REFUSES.format(rank=rank, part=part, number=number, note=str(note))
    (tmp_path / "hook" / "sitecustomize.py").write_text(hook)
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "hook"), os.environ.get("PYTHONPATH", "")]))
        with pytest.raises(StageError) as caught:
            fitted(config)
    text = str(caught.value)
    assert note.exists() and "\n" not in text and remedy in text, text
    assert "step=4.ckpt cannot be written" in text and os.strerror(number) in text, text
    [folder] = Path(config.artifacts).glob("models/*.partial/checkpoints")
    assert [path.name for path in folder.iterdir() if not path.name.endswith(".partial")] == ["step=2.ckpt"]
    model, curve = fitted(config)
    assert len(curve.losses) == 7 and model.name.startswith("tiny_student"), "it went on after step 2"
