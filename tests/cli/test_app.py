"""The command line: one table of commands, flags that printed and started commands keep, YAML of the user's own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fork_server import ROOT

from micota.cli.app import main
from micota.config import COMMANDS, arguments_for
from micota.config.call import Call

RunCommand = Callable[..., subprocess.CompletedProcess[str]]


def test_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["-h"], []):
        main(words)
        said = capsys.readouterr().out
        assert all(re.search(rf"^  {name} +\S", said, re.MULTILINE) for name in COMMANDS)
        assert max(map(len, said.splitlines())) <= 100


def test_a_command_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["trian", "student=qwen7b"])
    said = capsys.readouterr().err
    assert said.startswith("error: trian: no such command; did you mean 'train'?") and said.count("\n") == 1


def test_help_and_plan_import_no_torch() -> None:
    code = (
        "import sys; from micota.cli.app import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "sys.exit('torch' if 'torch' in sys.modules else 0)"
    )
    for words in (["--help"], ["train", "--help"], ["train", "experiment=tiny", "plan=true"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_scripts_of_the_checkout_are_the_commands() -> None:
    assert {path.stem for path in ROOT.glob("*.py")} - {"setup", "_checkout"} == set(COMMANDS)
    assert {path.stem for path in (ROOT / "conf").glob("*.yaml")} - {"base"} == set(COMMANDS)


def test_a_script_without_the_package_says_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-E", str(ROOT / "train.py"), "experiment=tiny"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "make install, then source .venv/bin/activate" in done.stderr


def test_printed_commands_are_written_as_the_present_one() -> None:
    overrides = ["experiment=tiny", "data=strong", "plan=true", "runner=workers"]
    console = Call(flags=["--config-dir", "/my configs"], overrides=overrides)
    assert console.words("train", arguments_for(overrides, {"data": "micota"})) == [
        "micota", "train", "--config-dir", "/my configs", "data=micota", "experiment=tiny",
    ]  # fmt: skip
    assert Call(as_script=True).words("train", []) == ["python", "train.py"]
