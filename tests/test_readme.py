"""Every command in the README and in docs/ works, or composes and plans where it needs a GPU."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from conftest import thorough_after
from fork_server import ROOT
from test_contributing import tutorial, write
from wrong_commands import refusal

from micota.config import TOOLS

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
# Pages that the site's hook writes are in no folder.
GENERATED = {DOCS / name for name in re.findall(r'"([\w/-]+\.md)"', (DOCS / "hooks" / "pages.py").read_text())}
Command = Callable[..., subprocess.CompletedProcess[str]]


def lines_of(page: Path) -> list[str]:
    """The commands of a page's shell blocks, without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def commands(kind: str) -> list[str]:
    """Commands that start with a word; those of CONTRIBUTING.md are executed by test_contributing.py."""
    pages = [page for page in PAGES if page.name != "CONTRIBUTING.md"]
    return sorted({line for page in pages for line in lines_of(page) if line.startswith(kind)})


def test_every_command_is_of_a_known_kind() -> None:
    for page in PAGES:
        scripts = re.findall(r'```python title="([\w.]+)"', page.read_text(encoding="utf-8"))
        other = {"source .venv/bin/activate", *(f"python {script}" for script in scripts)}
        for line in lines_of(page):
            assert line.startswith(("micota ", "make ")) or line in other, f"{page.name}: {line}"


def sample(path: Path) -> None:
    """Write a row that every command of the docs accepts: a plan reads the first rows."""
    problem, solution = "Ana has 5 pens:+3 mod 10?", "5+3=8.\n\\boxed{8}"
    row = {"problem": problem, "solution": solution, "answer": "8", "kind": "algebra"}
    row |= {"task": problem, "trace": solution, "result": "8"} if path.suffix == ".parquet" else {}
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps(row) + "\n")


def kind(line: str) -> tuple[str, ...]:
    """Of commands of one kind, the first is planned in a process: the same command and first key."""
    _, command, first, *_ = [*shlex.split(line), ""]
    return (command, first if command in TOOLS else first.partition("=")[0])


def composes(line: str) -> bool:
    """Whether a command is the composition of one config: not with flags, nor with the name of a kind of work."""
    return all("=" in word for word in shlex.split(line)[2:])


MICOTA = commands("micota ")
FIRST = {*{kind(line): line for line in reversed(MICOTA)}.values()}
IN_A_PROCESS = [line for line in MICOTA if line in FIRST or not composes(line)]


SPECIAL = (
    "grade=",
    "--config-dir",
    "hydra/launcher",
    "-m seed=",
    "outcomes=",
)  # each has another way in the test below


def first_of_a_command(line: str) -> tuple[str, ...]:
    return (line.split()[1], *(word for word in SPECIAL if word in line))


PLANNED_FAST = {*{first_of_a_command(line): line for line in reversed(IN_A_PROCESS)}.values()}


def marks(line: str) -> list[pytest.MarkDecorator]:
    if line not in IN_A_PROCESS:
        return [pytest.mark.slow]
    return [] if line in PLANNED_FAST else [pytest.mark.thorough]


ACCEPTED = [line for line in MICOTA if composes(line) and line not in PLANNED_FAST]
ACCEPTED.sort(key=lambda line: line not in FIRST)


@pytest.mark.parametrize("line", thorough_after(sum(line in FIRST for line in ACCEPTED), ACCEPTED))
def test_commands_in_the_docs_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r"path=([\w-]+\.[a-z]+)(?: |$)", line):
        (tmp_path / name).write_text("{}\n")
    assert refusal(line.removeprefix("micota ")) == ""


@pytest.mark.parametrize("command", [pytest.param(line, marks=marks(line)) for line in MICOTA])
def test_commands_in_the_docs_plan(run_command: Command, run_tool: Command, tmp_path: Path, command: str) -> None:
    _, command, *arguments = shlex.split(command)
    if command in TOOLS:
        finished = run_tool(command, *arguments)
        assert finished.returncode == 2 and "artifacts='artifacts': there is no such folder" in finished.stderr
        return
    if command == "report":
        finished = run_command("report", *arguments)
        assert finished.returncode == 2 and "there is nothing to report yet" in finished.stderr
        return
    if "grade=outputs.jsonl" in arguments:
        (tmp_path / "outputs.jsonl").write_text('{"id": 1, "completion": "so 7", "answer": "7"}\n')
        assert run_command("evaluate", *arguments).stdout.splitlines()[-1].startswith('{"file": "outputs.scores.jsonl"')
        return
    if "--config-dir" in arguments:  # the recipe of the tutorial
        write(tutorial(), tmp_path)
        sample(tmp_path / "rows.jsonl")
    for name in re.findall(r"path=([\w-]+\.[a-z]+)(?: |$)", " ".join(arguments)):
        sample(tmp_path / name)
    for name in re.findall(r"outcomes=([\w-]+\.csv)", " ".join(arguments)):
        rows = [f"s{number},short,0,0.{number},{40 + number},0.5" for number in range(6)]
        (tmp_path / name).write_text("\n".join(["student,recipe,seed,gain,num_tokens,accuracy_before", *rows]) + "\n")
    before = {entry.name for entry in tmp_path.rglob("*")}
    if any(argument.startswith("hydra/launcher") for argument in arguments):
        arguments = [argument for argument in arguments if argument != "-m"] + ["--cfg", "hydra"]
    else:
        arguments = [*arguments, "plan=true"] if "plan=true" not in arguments else arguments
    finished = run_command(command, *arguments)
    assert finished.returncode == 0, finished.stderr
    assert "to make" in finished.stdout or "submitit_slurm" in finished.stdout or "slurm" in finished.stdout
    assert {entry.name for entry in tmp_path.rglob("*")} - before <= {"artifacts", "sweeps", "multirun.yaml"}


@pytest.mark.parametrize("command", commands("make "))
def test_make_targets_in_the_docs_exist(command: str) -> None:
    finished = subprocess.run(
        ["make", "-n", *command.split()[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr


def test_the_flag_of_a_sweep_may_stand_anywhere_in_a_command(run_command: Command) -> None:
    for words in (["-m", "seed=0,1", "data=short"], ["seed=0,1", "-m", "data=short"], ["seed=0,1", "data=short", "-m"]):
        finished = run_command("train", "experiment=tiny", "plan=true", *words)
        assert finished.returncode == 0 and finished.stdout.count("to make") == 2, finished.stderr


@pytest.mark.skipif(shutil.which("srun") is not None, reason="this is a SLURM cluster")
def test_without_slurm_its_launcher_is_refused_in_one_line(run_command: Command) -> None:
    finished = run_command("train", "-m", "hydra/launcher=submitit_slurm", "experiment=tiny", "plan=true")
    assert finished.returncode == 2 and "Traceback" not in finished.stderr
    assert finished.stderr.splitlines()[-1].endswith("Accepted elsewhere: hydra/launcher=submitit_local, or basic")


def test_make_without_a_target_explains_itself() -> None:
    said = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("install", "demo", "test", "lint", "format", "bench"):
        assert f"make {target}" in said


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            target = (page.parent / link).resolve()
            found = link.startswith("https://") or target.exists() or target in GENERATED
            assert found, f"{page.name}: {link}"


def test_files_that_the_docs_name_exist() -> None:
    for page in PAGES:
        for path in re.findall(
            r"`((?:src|conf|tests|benchmarks|docs|notebooks)/[\w./-]+)`", page.read_text(encoding="utf-8")
        ):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_the_readme_fits_a_page_and_a_half() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1200


def test_errors_of_the_troubleshooting_page_exist() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py")))
    texts = re.findall(r"^### `(.*)`$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert texts
    for text in texts:
        assert text in source, text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_sources_have_one_sentence_a_line(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for line in text.splitlines():
        if not line.lstrip().startswith(("|", "#", ":")):
            assert not re.search(r"[a-z)`]\. [A-Z][a-z]+ [a-z]", line), f"{page.name}: {line}"
