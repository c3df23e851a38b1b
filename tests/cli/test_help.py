"""The help of each command, and completion on Tab."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import thorough_after
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from micota.cli.app import main
from micota.cli.arguments import read
from micota.cli.help import WIDTH, declared_at
from micota.config import COMMANDS, GROUPS

SHELL = """
eval "$(micota --shell-completion install=bash)"
COMP_LINE="$1"; COMP_POINT=${#COMP_LINE}; words=($COMP_LINE); COMP_CWORD=$((${#words[@]} - 1))
hydra_bash_completion
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize("name", thorough_after(3, [*COMMANDS]))
def test_help_shows_the_first_keys_with_their_meaning_and_nothing_internal(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["micota"])
    with pytest.raises(SystemExit) as stop:
        main([name, "--help", "experiment=tiny"])
    said, errors = capsys.readouterr()
    assert stop.value.code == 0, errors
    assert "HYDRA_FULL_ERROR" not in os.environ, "a command left its mark on the environment"
    lines = said.splitlines()
    assert max(map(len, lines)) <= WIDTH and len(lines) <= 90
    for key in COMMANDS[name].first:
        [at] = [number for number, line in enumerate(lines) if line.startswith(f"  {key}=")]
        assert lines[at + 1].startswith("    ") and "accepted" not in lines[at + 1], f"{key} says not what it means"
    assert f"  micota {name} {COMMANDS[name].examples[0]}" in lines
    assert "  experiment=tiny" in lines, "values are those of the settings at hand"
    for internal in ("fingerprint", "overrides", "compared"):
        assert not any(line.startswith(f"  {internal}") for line in lines)


def test_first_keys_are_keys() -> None:
    for command in COMMANDS.values():
        for key in command.first:
            assert key in GROUPS or declared_at(command.schema, key) is not None, key


def test_flags_may_stand_anywhere_and_those_that_lead_to_configs_are_kept(tmp_path: Path) -> None:
    call, words = read(["seed=1", "-cd", str(tmp_path), "plan=true", "-m", "data=a,b"], as_script=False)
    assert call.flags == ["--config-dir", str(tmp_path)] and call.overrides == ["seed=1", "plan=true", "data=a,b"]
    assert words == ["-cd", str(tmp_path), "-m", *call.flags, *call.overrides]
    call, _ = read([f"--config-path={tmp_path}", "--config-name", "train", "x=1"], as_script=True)
    assert call.flags == ["--config-path", str(tmp_path), "--config-name", "train"] and call.as_script


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A search path on which micota is a program, as where it is installed."""
    program = tmp_path / "micota"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{START}" "$@"\n')
    program.chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


START = "import sys; sys.argv[0] = 'micota'; from micota.cli.app import main; main()"


@pytest.mark.parametrize(("line", "expected"), thorough_after(1, [
    ("micota tr", ["train"]),
    ("micota train student=qwen7", ["student=qwen7b", "student=qwen7b_base"]),
    ("micota train experiment=tiny student.sft.lear", ["student.sft.learning_rate="]),
]))  # fmt: skip
def test_bash_completes_commands_options_and_keys(path: str, line: str, expected: list[str]) -> None:
    env = os.environ | {"PATH": path}
    done = subprocess.run(["bash", "-c", SHELL, "bash", line], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == expected, done.stderr


@pytest.mark.parametrize("name", ["a b.jsonl", "a=b,c.jsonl", "~a.jsonl", "@x#1%;.jsonl", "é.jsonl", "a'b$x{y}.jsonl"])
def test_paths_of_files_need_no_quotes_for_hydra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).touch()
    call, _ = read([f"data.path={name}", "x=~/none.jsonl", "y=~nobody/x"], as_script=False)
    parser = OverridesParser.create()
    first, second = parser.parse_overrides(call.overrides[:2])
    assert OmegaConf.create({"path": first.value()}).path == name and second.value() == "~/none.jsonl"
    assert call.overrides[2] == "y=~nobody/x"
