from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from micota.cli.show_prompts import show_prompts
from micota.config import SourceConfig
from micota.data.sources import load_problems
from micota.errors import ConfigError


def test_prompts_are_shown_as_rendered_and_nothing_is_made(
    run_command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    finished = run_command(
        "generate", "experiment=tiny", "data=strong", "show_prompts=2", 'prompt.template="First {problem}"'
    )
    assert finished.returncode == 0, finished.stderr
    first, second, third = load_problems(SourceConfig(path="bundled:train.jsonl", id_column="id", limit=3))
    assert f"First {first.problem}\n" in finished.stdout and f"First {second.problem}\n" in finished.stdout
    assert third.problem not in finished.stdout and finished.stdout.count("tokens, hash ") == 2
    assert not list(tmp_path.iterdir())


def test_every_generator_of_a_mixture_is_shown_also_one_without_data_yet(
    composed: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    show_prompts(composed("generate", "experiment=tiny", "data=mix_long", "show_prompts=1"), Console(width=200))
    show_prompts(composed("generate", "experiment=tiny", "data=micota", "show_prompts=1"), Console(width=200))
    heads = [line.split(",")[0] for line in capsys.readouterr().out.splitlines() if "tokens, hash" in line]
    assert [head.rpartition("@")[2] for head in heads] == ["tiny"] * 3
    assert heads[0].startswith("tiny_teacher@") and "dare_ties" in heads[2]


def test_rows_of_a_file_have_no_prompts(composed: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("{}\n")
    overrides = ["data=strong", "data.generator=none", f"data.path={tmp_path}/mine.jsonl", "show_prompts=1"]
    with pytest.raises(ConfigError, match=r"show_prompts=1: data=mine are rows of a file"):
        show_prompts(composed("generate", "experiment=tiny", *overrides), Console())
