"""What a killed run leaves for the next one, damaged meanwhile: it is made again, or refused by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from rich.progress import Progress

from micota import graph
from micota.artifacts.appending import JsonlAppender
from micota.artifacts.jsonl import read_jsonl
from micota.artifacts.quick_sums import read_summed, write_summed
from micota.artifacts.store import DISCARDED, ENGINE, RUN, Build, Store, discarded
from micota.config import SamplingConfig
from micota.console import PROGRESS
from micota.errors import ConfigError, StageError
from micota.records import Question
from micota.runtime.placing import placed
from micota.runtime.plan import Task
from micota.runtime.streaming import Rows
from micota.sft import targets
from micota.sft.kept_models import KeptModels
from micota.sft.rollouts import Rollouts

ROWS = [Question(id=str(number), problem="x" * number) for number in range(6)]


def killed(path: Path, rows: list[Question] = ROWS) -> None:
    """Append rows and end without the end of the file."""
    appender = JsonlAppender(path)
    for row in rows:
        appender.append([row])


def flipped(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def swapped(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"xxxx", b"yyyy"))


DAMAGE: dict[str, tuple[Callable[[Path], object], set[str]]] = {  # with the rows that stay
    "nothing": (lambda path: None, {"0", "1", "2", "3", "4", "5"}),
    "flip": (lambda path: flipped(path, 40), {"0", "2", "3", "4", "5"}),
    "flip of a line break": (
        lambda path: flipped(path, path.read_bytes().index(b"\n")), {"1", "2", "3", "4", "5"},
    ),
    "truncate": (lambda path: os.truncate(path, 100), {"0", "1", "2"}),
    "torn": (lambda path: os.truncate(path, path.stat().st_size - 1), {"0", "1", "2", "3", "4"}),
    "empty": (lambda path: os.truncate(path, 0), set()),
    "zero": (lambda path: path.write_bytes(bytes(path.stat().st_size)), set()),
    "delete": (Path.unlink, set()),
    "other rows": (swapped, {"0", "1", "2", "3"}),
    "a row of another program": (
        lambda path: path.open("a").write('{"id": "9", "problem": ""}\n'), {"0", "1", "2", "3", "4", "5"},
    ),
    "notes cut": (lambda path: os.truncate(path.with_name(".rows.jsonl.sums"), 90), {"0", "1"}),
    "notes gone": (lambda path: path.with_name(".rows.jsonl.sums").unlink(), {"0", "1", "2", "3", "4", "5"}),
}  # fmt: skip

SILENT = ("nothing", "a row of another program", "notes gone")  # what a killed run can leave too


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_rows_are_made_again_and_others_stay(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rows.jsonl"
    killed(path)
    hurt, kept = DAMAGE[damage]
    hurt(path)
    appender = JsonlAppender(path)
    rows = read_jsonl(path, Question)
    assert [row for row in ROWS if row.id in kept] == rows
    assert (f"{path}: " in caplog.text) == (damage not in SILENT)
    for row in ROWS:
        if row.id not in kept:
            appender.append([row])
    assert JsonlAppender(path) and {*read_jsonl(path, Question)} == {*ROWS}, "the new rows have sums of their own"
    JsonlAppender(path).close()
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_rows_of_an_earlier_version_stay(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "0", "problem": ""}\n')
    killed(path, ROWS[1:4])
    flipped(path, 60)
    JsonlAppender(path)
    assert [row.id for row in read_jsonl(path, Question)] == ["0", "1", "3"]


def test_numbers_with_a_sum_are_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "activations.json"
    assert read_summed(path) is None and not caplog.records
    write_summed(path, {"layer 0": 0.1, "layer 1": 1e-320})
    content = path.read_text()
    assert read_summed(path) == {"layer 0": 0.1, "layer 1": 1e-320}
    for damaged in (content.replace("0.1", "0.3"), content[:20], "", "[1]", '{"layer 0": 0.1}', "\0" * 50):
        path.write_text(damaged)
        caplog.clear()
        assert read_summed(path) is None and f"{path} is damaged" in caplog.text


def rollouts(folder: Path) -> Rollouts:
    settings: Any = SimpleNamespace(sampling=SamplingConfig(), round_steps=2)
    made = Rollouts.__new__(Rollouts)
    vars(made).update(round_steps=settings.round_steps, _folder=folder, _writes=True)
    return made


def test_damaged_answers_of_the_student_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "rollouts"
    folder.mkdir()
    made, path = rollouts(folder), folder / "round=1.jsonl"
    path.write_text('{"step": 2, "example": 0, "problem_id": "1", "completion": "", "finish_reason": "stop", '
                    '"token_ids": [5]}\n')  # fmt: skip
    made.note(1)
    assert [answer.token_ids for answer in made._read(1, is_first=True).values()] == [[5]]
    for hurt in (lambda: flipped(path, 92), lambda: os.truncate(path, 0), path.unlink):
        hurt()
        with pytest.raises(ConfigError, match=f"{path} is .*; delete {tmp_path} and run again"):
            made._read(1, is_first=True)
    assert made._read(0, is_first=True) == {} and not list(folder.iterdir()), "later rounds are sampled again"


def test_a_damaged_model_of_a_single_step_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer: Any = SimpleNamespace(
        global_step=2, is_global_zero=True, global_rank=0, world_size=1, strategy=SimpleNamespace(barrier=lambda: None)
    )
    kept = KeptModels(tmp_path / "models", 2, None, lambda draft: (draft / "model.safetensors").write_bytes(b"weights"))
    kept.on_train_batch_end(trainer, trainer)
    kept.setup(trainer, trainer, "fit")
    file = tmp_path / "models" / "step=2" / "model.safetensors"
    flipped(file, 3)
    with pytest.raises(ConfigError, match=f"{file} is damaged.*; delete {tmp_path} and run again"):
        kept.setup(trainer, trainer, "fit")


def test_damaged_rows_of_a_teacher_are_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = targets.file_of(tmp_path, 0)
    rows = {"log_p": torch.arange(6, dtype=torch.float16).view(2, 3), "ids": torch.zeros(2, 2, dtype=torch.int32)}
    assert not targets.has_rows(path, "key") and not caplog.records
    targets.save_rows(path, "key", rows)
    content = path.read_bytes()
    assert targets.has_rows(path, "key")
    targets.save_rows(path, "other", rows)
    of_another = path.read_bytes()
    for damaged in (content[:-1] + b"\1", content[:-1], b"", bytes(len(content)), of_another):
        path.write_bytes(damaged)
        caplog.clear()
        assert not targets.has_rows(path, "key") and f"{path} is damaged" in caplog.text


def test_damaged_notes_of_a_build_are_none_or_refused(tmp_path: Path, composed: Callable[..., Any]) -> None:
    config = composed("generate", "experiment=tiny", "data=strong", "engine=auto", "tracker=none")
    node = graph.data(config, config.data).inputs["completions"]
    store = Store(tmp_path)
    partial = store.partial(node)
    partial.mkdir(parents=True)
    for content in ("\0\0", "{", "3", "[3]", ""):
        (partial / DISCARDED).write_text(content)
        assert discarded(partial) == []
        (partial / PROGRESS).write_text(content)
        assert Rows(store, Console(quiet=True), Progress()).state(Task("generate", {}, [node])) is None
    for content, known in ((b"abc12345", "abc12345"), (b"\xff\0", None), (b"", None)):
        (partial / RUN).write_bytes(content)
        assert store.run_of(node) == known
    (partial / ENGINE).write_text("hf")
    assert placed(config, node, Build(partial)).engine.name == "hf"
    for content in (b"if", b"", b"\xff\xff"):
        (partial / ENGINE).write_bytes(content)
        with pytest.raises(StageError, match=f"{partial / ENGINE} is damaged: .*accepted: hf or vllm"):
            placed(config, node, Build(partial))
