"""Every command in the README and in docs/ works, or composes and plans where it needs a GPU."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fork_server import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
# Pages that the site's hook writes are in no folder.
GENERATED = {DOCS / name for name in re.findall(r'"([\w/-]+\.md)"', (DOCS / "hooks" / "pages.py").read_text())}
Command = Callable[..., subprocess.CompletedProcess[str]]


def commands(kind: str) -> list[str]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            lines = [line.split("  #")[0].strip() for line in block.replace("\\\n", " ").splitlines()]
            found += [line for line in lines if line.startswith(kind)]
    return sorted(set(found))


def test_every_command_is_of_a_known_kind() -> None:
    known = {*commands("python "), *commands("make ")}
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                assert not line.strip() or line.split("  #")[0].strip() in known, f"{page.name}: {line}"


@pytest.mark.parametrize("command", commands("python "))
def test_commands_in_the_docs_plan(run_command: Command, tmp_path: Path, command: str) -> None:
    command, *arguments = shlex.split(command.removeprefix("python "))
    if command == "report.py":
        finished = run_command("report", *arguments)
        assert finished.returncode == 2 and "python pipeline.py experiment=tiny" in finished.stderr
        return
    if "grade=outputs.jsonl" in arguments:
        (tmp_path / "outputs.jsonl").write_text('{"id": 1, "completion": "so 7", "answer": "7"}\n')
        assert run_command("evaluate", *arguments).stdout.splitlines()[-1].startswith('{"file": "outputs.scores.jsonl"')
        return
    if any(argument.startswith("hydra/launcher") for argument in arguments):
        arguments = [argument for argument in arguments if argument != "-m"] + ["--cfg", "hydra"]
    else:
        arguments = [*arguments, "plan=true"] if "plan=true" not in arguments else arguments
    finished = run_command(command.removesuffix(".py"), *arguments)
    assert finished.returncode == 0, finished.stderr
    assert "to make" in finished.stdout or "submitit_slurm" in finished.stdout or "slurm" in finished.stdout
    assert {entry.name for entry in tmp_path.rglob("*")} <= {"artifacts", "sweeps", "multirun.yaml"}


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
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            target = (page.parent / link).resolve()
            found = link.startswith("https://") or target.exists() or target in GENERATED
            assert found, f"{page.name}: {link}"


def test_files_that_the_docs_name_exist() -> None:
    for page in PAGES:
        for path in re.findall(
            r"`((?:src|conf|tests|benchmarks|docs|notebooks)/[\w./-]+)`", page.read_text(encoding="utf-8")
        ):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_the_readme_fits_a_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100
