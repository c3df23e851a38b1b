"""Every wrong input of the table is one line that names the key or file, the value and the accepted form.

The table is bad_inputs.txt: whoever finds another wrong input adds a line to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from rich.console import Console
from wrong_commands import refusal

from micota import graph
from micota.artifacts.store import Store
from micota.cli.composing import composing, prepared
from micota.cli.experiments import cases
from micota.cli.grade_file import graded_rows
from micota.config import SourceConfig
from micota.config.rows import RowsConfig
from micota.data.files import numbered_rows
from micota.data.shapes import training_rows
from micota.data.sources import load_problems, read_rows
from micota.errors import is_users, shown
from micota.grading.graders import gold_for
from micota.report.outcomes import read_table
from micota.runtime.plan import show_plan

TABLE = Path(__file__).with_name("bad_inputs.txt")


def entries() -> Iterator[tuple[str, str, str]]:
    """The kind, the input and the expected line of every entry; an entry is ``INPUT => LINE``, below its ``= KIND``."""
    kind = ""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("= "):
            kind = line.removeprefix("= ")
        elif line and not line.startswith("#"):
            given, _, expected = line.partition(" => ")
            yield kind, given.rstrip(), expected


def content(text: str) -> bytes:
    """The content of a file: as it stands, with ⏎ for a line break, or by a Python expression for its bytes."""
    return eval(text.removeprefix("py:")) if text.startswith("py:") else text.replace("⏎", "\n").encode()


def problems(file: Path) -> None:
    for problem in load_problems(SourceConfig(path=str(file))):
        gold_for(problem)


def rows(file: Path) -> None:
    source, prompt = RowsConfig(path=str(file)), SimpleNamespace(template="{problem}", system=None, as_chat=True)
    for where, row in numbered_rows(source):
        list(training_rows(row, where, source, prompt))


def grades(file: Path) -> None:
    list(graded_rows(read_rows(file), str(file)))


def own_config(file: Path) -> None:
    folder = Path("conf")
    (folder / "experiment").mkdir(parents=True, exist_ok=True)
    (folder / "experiment" / "own.yaml").write_bytes(b"# @package _global_\n" + file.read_bytes())
    with composing(folder):
        cases(prepared(["experiment=own"], "pipeline", folder))


def planned(config: Any) -> None:
    """Plan the training of a config, with what its files show; nothing is printed."""
    show_plan(config, Store(config.artifacts), [graph.trained(config, config.role)], Console(quiet=True))


def outcomes(file: Path) -> None:
    read_table(str(file))


READERS: dict[str, Callable[[Path], None]] = {
    "problems": problems, "training rows": rows, "graded rows": grades, "own config": own_config,
    "outcomes": outcomes,
}  # fmt: skip


def line_of(kind: str, given: str) -> str:
    """The line that an entry gives, with the exit code 2; empty where the input is accepted."""
    if kind == "plan":
        return refusal(f"{given} plan=true", planned)
    if kind == "command":
        return refusal(given.replace("⏎", "\n"), lambda config: cases(config) if hasattr(config, "jobs") else None)
    name, _, text = given.partition(" ")
    Path(name).write_bytes(content(text))
    try:
        READERS[kind](Path(name))
    except Exception as error:
        if not is_users(error):
            raise
        return shown(str(error))
    return ""


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.thorough), 8])
@pytest.mark.parametrize("kind", ["command", "plan", *READERS])
def test_a_wrong_input_is_one_line_with_the_accepted_form(
    kind: str, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line of the table, or the first of ``every`` so many of a kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("empty").mkdir()
    Path("file").touch()
    os.mkfifo("pipe.jsonl")
    Path("loop").symlink_to("loop")
    Path("dangling").mkdir()
    Path("dangling", "rows.jsonl").symlink_to("nowhere")
    wrong: list[str] = []
    for _, given, expected in [entry for entry in entries() if entry[0] == kind][::every]:
        try:
            line: Any = line_of(kind, given)
        except Exception as error:  # with which a command would show its traceback
            line = f"TRACEBACK {error!r}"
        parts, start = expected.split(" ... "), 0
        for part in parts:
            start = line.find(part, start) if start >= 0 else -1
        if start < 0 or not expected or "accepted" not in line or "\n" in line:
            wrong.append(f"{given[:120]}\n    is       {line[:300]}\n    expected {expected}")
    assert not wrong, "\n".join([f"{len(wrong)} of {kind}:", *wrong])
    assert not list(tmp_path.rglob("*hacked*"))
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize("given", [
    "student.sft.lora.r=48 student.sft.lora.targets=[q_proj,mlp.up_proj,all-linear]",
    "student.sft.lora.r=8 student.sft.lora.alpha=1 'student.sft.lora.targets=[\".*[.]0[.].*_proj\"]'",
    "student.sft.freeze=[model.embed_tokens,lm_head,'.*norm.*']",
])  # fmt: skip
def test_right_settings_of_what_is_trained_pass_a_plan(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert line_of("plan", f"train experiment=tiny {given}") == ""


def test_the_table_has_enough_of_every_kind() -> None:
    table = list(entries())
    assert len(table) >= 300 and len(set(table)) == len(table)
    assert {kind for kind, _, _ in table} == {"command", "plan", *READERS}
