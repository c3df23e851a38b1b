"""The command line: one table of commands, flags that printed and started commands keep, YAML of the user's own."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import thorough_after
from fork_server import ROOT

from micota.cli.app import main
from micota.cli.printing import print_anywhere, printing_no_keys
from micota.config import COMMANDS, arguments_for
from micota.config.call import Call
from micota.console import new_table, open_console, print_table

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


@pytest.mark.parametrize(
    "words", thorough_after(1, [["train", "experiment=tiny", "plan=true"], ["--help"], ["train", "--help"]])
)
def test_help_and_plan_import_no_torch(words: list[str]) -> None:
    code = (
        "import sys; from micota.cli.app import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "sys.exit('torch' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", thorough_after(1, [["--help"], ["train", "--help"]]))
def test_a_reader_that_closes_the_pipe_ends_a_command_quietly(words: list[str]) -> None:
    """As ``micota ... | head`` does."""
    reading, writing = os.pipe()
    os.close(reading)
    code = "import sys; from micota.cli.app import main; main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, *words], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.returncode == 1 and done.stderr == b""


def test_scripts_of_the_checkout_are_the_commands() -> None:
    assert {path.stem for path in ROOT.glob("*.py")} - {"setup", "_checkout"} == set(COMMANDS)
    assert {path.stem for path in (ROOT / "conf").glob("*.yaml")} - {"base", "running"} == set(COMMANDS)


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


@pytest.fixture
def own_configs(tmp_path: Path) -> Path:
    """A folder of YAML as a user has it, with a blank in its name: a student, a recipe, a benchmark, an experiment."""
    files = {
        "student/mine.yaml": "# @package student\ndefaults: [/student/tiny@_here_, _self_]\nsft: {epochs: 1}\n",
        "data/mine.yaml": "# @package data\ndefaults: [/data/strong@_here_, _self_]\nname: mine\n",
        "bench/mine.yaml": "defaults: [tiny_easy]\neasy: {limit: 8}\n",
        "experiment/mine.yaml": (
            "# @package _global_\ndefaults: [tiny, {override /student: mine}, {override /bench: [mine]}, _self_]\n"
            "name: mine\ncompare: {recipes: [mine], measures: [scores], merge_weights: []}\n"
        ),
    }
    for name, text in files.items():
        path = tmp_path / "my configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "my configs"


def micota(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "micota", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_configs_of_the_users_own_are_options_and_every_printed_command_keeps_them(
    own_configs: Path, tmp_path: Path
) -> None:
    asked = ["experiment=mine", "data=mine", "--config-dir", "my configs", "tracker=none"]
    plan = micota("train", *asked, "plan=true", folder=tmp_path)
    assert plan.returncode == 0, plan.stderr
    first, *_, last = [line for line in plan.stdout.splitlines() if line.startswith("micota ")]
    start = ["micota", "generate", "--config-dir", str(own_configs), "data=mine"]
    assert shlex.split(first)[: len(start)] == start and shlex.split(last)[1] == "train"
    missing = micota("train", *asked, folder=tmp_path)
    assert missing.returncode == 2 and first in missing.stderr
    # Pasted into a shell, the line works as it stands.
    pasted = f'micota() {{ {shlex.quote(sys.executable)} -m micota "$@"; }}; {first} plan=true'
    done = subprocess.run(["bash", "-c", pasted], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.splitlines()[0] == first, done.stderr


def test_an_option_that_is_not_there_is_answered_with_those_of_the_user(own_configs: Path, tmp_path: Path) -> None:
    done = micota("train", "--config-dir", str(own_configs), "student=min", folder=tmp_path)
    assert done.returncode == 2 and "qwen1.5b" in done.stderr and "mine" in done.stderr.split("accepted:")[1]
    done = micota("pipeline", "--config-dir", "nowhere", "experiment=tiny", folder=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "nowhere" in done.stderr


@pytest.mark.parametrize(("content", "expected"), thorough_after(2, [
    (b"path: a\n\tname: b\n", ":2: not valid YAML (found character '\\t'"),
    (b"path: a\npath: b\n", ":2: not valid YAML (found duplicate key path)"),
    (b"path: [a\n", ":2: not valid YAML (expected ',' or ']'"),
    (b"path: \xff\n", ": not valid YAML ('utf-8' codec can't decode byte 0xff"),
    (b"path: \x00\n", ": not valid YAML (special characters are not allowed)"),
    (b"defaults: 5\n", "Invalid defaults list in 'student/broken', defaults must be a list"),
]))  # fmt: skip
def test_a_file_of_the_users_own_that_is_no_config_is_named(
    own_configs: Path, capsys: pytest.CaptureFixture[str], content: bytes, expected: str
) -> None:
    (own_configs / "student" / "broken.yaml").write_bytes(content)
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--config-dir", str(own_configs), "student=broken"])
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and expected in printed and "student/broken" in printed
    (own_configs / "unused.yaml").write_bytes(content)
    main(["train", "--config-dir", str(own_configs), "experiment=tiny", "plan=true"])


def test_a_group_that_is_null_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", "experiment=tiny", "student=null"])
    printed = capsys.readouterr().err
    assert printed.startswith("error: student=null: Config group override") and printed.count("\n") == 1


@pytest.mark.parametrize("words", [["--bogus"], ["--config-dir"], ["--cfg", "nope"]])
def test_a_flag_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", "experiment=tiny", *words])
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1 and words[0].lstrip("-") in printed


def test_values_with_blanks_and_braces_are_quoted(tmp_path: Path) -> None:
    plan = micota("train", "experiment=tiny", "prompt.template='{problem}  1?'", "plan=true", folder=tmp_path)
    first = plan.stdout.splitlines()[0]
    assert shlex.split(first)[-1] == "prompt.template='{problem}  1?'", plan.stderr
    pasted = f'micota() {{ {shlex.quote(sys.executable)} -m micota "$@"; }}; {first} plan=true'
    done = subprocess.run(["bash", "-c", pasted], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.splitlines()[0] == first, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("runner", [["runner=subprocess"], ["runner=submitit", "cluster=local"]])
def test_processes_of_a_pipeline_keep_configs_of_the_users_own(
    own_configs: Path, tmp_path: Path, runner: list[str]
) -> None:
    small = ["problems.limit=96", "select.num_examples=24", "select.filters=[finished]", "tracker=none", *runner]
    done = micota("pipeline", "-cd", "my configs", "experiment=mine", *small, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("artifacts/models/tiny_student+mine-*"))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_a_sign_gets_its_escape(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding, write_through=True))
    print_anywhere()
    table = new_table("\u27e6 \u00b1 \udcc3")
    table.add_row("\u2248")
    print_table(open_console(), table)
    assert rb"\u27e6" in printed.getvalue() and rb"\u2248" in printed.getvalue() and rb"\udcc3" in printed.getvalue()


@pytest.mark.parametrize("words", [["--cfg", "job"], ["-c", "job"], ["--cfg=all"]])
def test_a_printed_config_has_no_key(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with printing_no_keys(["experiment=tiny", *words]):
        print("url: http://me:0a1b2c3d@h/v1\nextra_body:\n  Authorization: 0a1b2c3d\nmax_tokens: 5")
    assert capsys.readouterr().out == "url: http://***@h/v1\nextra_body:\n  Authorization: ***\nmax_tokens: 5\n"
    with printing_no_keys(["experiment=tiny"]):
        print("plain")
    assert capsys.readouterr().out == "plain\n"
