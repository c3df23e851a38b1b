"""The whole method in a toy of the toy: from the teacher to the page, read again, and swept."""

from __future__ import annotations

import doctest
import inspect
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fork_server
import pytest
from conftest import SMALL, thorough_after
from fork_server import ROOT
from hurt_runs import results
from nbclient import NotebookClient
from run_notebook import read_notebook
from wandb_files import read_runs

import micota
from micota.api import load_results
from micota.artifacts.manifest import read_manifest
from micota.errors import ArtifactError

Command = Callable[..., subprocess.CompletedProcess[str]]
ALL_MEASURES = "compare.measures=[teacher,merges,scores,bpc,rank_shift,merge_sweep]"
GRID = ["merge_sweep.num_problems=8", "merge_sweep.densities=[0.5]", "merge_sweep.weights=[0.4,0.6]"]
PIPELINE = str(ROOT / "pipeline.py")
FEW = "compare.recipes=[instruct,strong,mix_long,micota]"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, subprocess.CompletedProcess[str]]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    env = os.environ | {"MICOTA_ARTIFACTS": str(folder / "artifacts")}
    yield folder, fork_server.run(PIPELINE, [*SMALL, FEW], env, cwd=folder)


def test_it_runs_from_the_teacher_to_the_page(undisturbed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, finished = undisturbed
    assert finished.returncode == 0, finished.stderr
    page = Path(finished.stdout.splitlines()[-1].removeprefix("report: "))
    assert page.exists() and "micota" in page.read_text(encoding="utf-8")
    assert [entry.name for entry in folder.iterdir()] == ["artifacts"], "something was left outside the artifacts"
    assert {entry.name for entry in (folder / "artifacts").iterdir()} == {
        ".sums.jsonl", "bpc", "cache", "completions", "data", "models", "reports", "scores",
    }  # fmt: skip
    assert not list((folder / "artifacts").rglob("*.partial"))
    for word in ("against instruct, paired", "TA merged at 0.5", "TA after SFT", "BPC"):
        assert word in finished.stdout


def test_every_number_walks_back_to_the_teacher(undisturbed: tuple[Path, Any]) -> None:
    artifacts = undisturbed[0] / "artifacts"
    by_key = {}
    for path in artifacts.glob("*/*/manifest.json"):
        manifest = read_manifest(path.parent)
        by_key[manifest.key] = manifest
    [score] = [m for m in by_key.values() if m.name == "tiny_student+micota@easy" and m.stage == "grade"]
    chain, manifest = [], score
    while manifest is not None:
        chain.append(manifest.stage)
        parents = [by_key[entry["key"]] for entry in manifest.inputs.values() if entry["key"] in by_key]
        manifest = parents[-1] if parents else None
    assert chain == ["grade", "generate", "train", "select", "generate", "merge", "train", "select", "generate"]
    assert score.versions["transformers"] and score.hardware["cpus"]


def test_the_second_time_everything_is_there(undisturbed: tuple[Path, Any], run_command: Command) -> None:
    artifacts = str(undisturbed[0] / "artifacts")
    again = run_command("pipeline", *SMALL, FEW, MICOTA_ARTIFACTS=artifacts)
    assert again.returncode == 0 and ", 0 to make" in again.stdout
    plan = run_command("pipeline", *SMALL, FEW, "plan=true", MICOTA_ARTIFACTS=artifacts)
    assert plan.stdout.splitlines()[-1] == "0 to make"
    shown = run_command("report", *SMALL, FEW, MICOTA_ARTIFACTS=artifacts)
    assert shown.returncode == 0 and shown.stdout.splitlines()[-1] == again.stdout.splitlines()[-1]


def test_the_plan_shows_what_a_change_would_redo(undisturbed: tuple[Path, Any], run_command: Command) -> None:
    artifacts = str(undisturbed[0] / "artifacts")
    plan = run_command("pipeline", *SMALL, FEW, "merge.density=0.3", "plan=true", MICOTA_ARTIFACTS=artifacts)
    lines = plan.stdout.splitlines()
    assert any("done" in line and "models/tiny_ta+strong-" in line for line in lines)
    assert any("make" in line and "tiny_ta+strong.dare_ties-d0.3-w0.5" in line for line in lines)
    assert any("data/micota-" in line and "changed: inputs.completions" in line for line in lines)
    assert not list(Path(artifacts).rglob("*d0.3*")), "a plan made something"


def test_missing_inputs_name_the_commands_that_make_them(run_command: Command) -> None:
    finished = run_command("train", *SMALL, "data=micota")
    assert finished.returncode == 2
    for command in ("python generate.py data=strong", "python train.py role=ta", "python merge.py", "data=micota"):
        assert command in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_damage_stops_before_any_work(undisturbed: tuple[Path, Any], run_command: Command, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(undisturbed[0] / "artifacts", tmp_path / "artifacts")
    [weights] = (tmp_path / "artifacts").glob("models/tiny_ta+strong-*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    finished = run_command("merge", *SMALL, "merge.density=0.9")
    assert finished.returncode == 2 and "the artifact is damaged" in finished.stderr and str(weights) in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_a_sweep_shares_everything_upstream_and_compares_in_wandb(
    undisturbed: tuple[Path, Any], run_command: Command
) -> None:
    folder, artifacts = undisturbed[0], undisturbed[0] / "artifacts"
    before = set(results(artifacts))
    finished = run_command(
        "merge", "-m", *SMALL, "tracker=wandb", "tracker.mode=offline", "merge.density=0.2,0.4,0.6",
        MICOTA_ARTIFACTS=str(artifacts), HOME=str(folder),
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    made = set(results(artifacts)) - before
    assert sorted(name.split("dare_ties-")[1][:4] for name in made) == ["d0.2", "d0.4", "d0.6"]
    assert [run.config["merge"]["density"] for run in read_runs(artifacts)] == [0.2, 0.4, 0.6]
    assert [entry.name for entry in folder.iterdir()] == ["artifacts"], "W&B left something outside the artifacts"
    assert finished.stdout.count("wandb sync") == 1
    told = f'tracked offline; to upload:  for run in {artifacts}/wandb/offline-run-*; do wandb sync "$run"; done'
    assert finished.stdout.splitlines()[-1] == told
    failed = run_command(
        "train", *SMALL, "role=ta", "ta.sft.epochs=2", "trainer=gpu", "trainer.precision=32-true", "tracker=wandb",
        "tracker.mode=offline", MICOTA_ARTIFACTS=str(artifacts), HOME=str(folder), CUDA_VISIBLE_DEVICES="",
    )  # fmt: skip
    assert failed.returncode == 2 and "offline" not in failed.stdout, "a refused command tracked nothing"


@pytest.mark.slow
@pytest.mark.parametrize("runner", [["runner=subprocess", "jobs=2"], ["runner=submitit", "cluster=local", "jobs=2"]])
def test_runners_agree(undisturbed: tuple[Path, Any], run_command: Command, tmp_path: Path, runner: list[str]) -> None:
    finished = run_command("pipeline", *SMALL, FEW, *runner)
    assert finished.returncode == 0, finished.stderr
    ours = {name: entry for name, entry in results(tmp_path / "artifacts").items() if "-d0.5-" in name or "+" in name}
    theirs = results(undisturbed[0] / "artifacts")
    assert ours and all(theirs[name] == entry for name, entry in ours.items())


def test_a_gpu_that_is_not_there_is_refused_at_once(undisturbed: tuple[Path, Any], run_command: Command) -> None:
    artifacts = undisturbed[0] / "artifacts"
    arguments = ["role=ta", "ta.sft.epochs=2", "trainer=gpu", "trainer.precision=32-true"]
    finished = run_command("train", *SMALL, *arguments, MICOTA_ARTIFACTS=str(artifacts), CUDA_VISIBLE_DEVICES="")
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: trainer='gpu', but PyTorch sees no GPU here")


def test_manifests_name_the_source_of_models(undisturbed: tuple[Path, Any]) -> None:
    [manifest] = (undisturbed[0] / "artifacts").glob("models/tiny_ta+strong-*/manifest.json")
    model = read_manifest(manifest.parent).inputs["model"]
    assert (model["name"], model["path"]) == ("tiny_ta", "bundled:ta") and len(model["revision"]) == 12


@pytest.mark.thorough
def test_a_stage_that_fails_in_its_own_process_is_reported_on_one_line(
    undisturbed: tuple[Path, Any], run_command: Command
) -> None:
    arguments = [*SMALL, "compare.recipes=[strong]", "select.num_examples=99", "runner=subprocess"]
    finished = run_command("pipeline", *arguments, MICOTA_ARTIFACTS=str(undisturbed[0] / "artifacts"))
    assert finished.returncode == 2 and finished.stderr.count("\n") == 1
    assert "generate.py data=strong" in finished.stderr and "failed: error: only 9" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.fixture(scope="module")
def explored(undisturbed: tuple[Path, Any]) -> Path:
    """Artifacts of a pipeline run, with all that an experiment can measure."""
    artifacts = undisturbed[0] / "artifacts"
    env = os.environ | {"MICOTA_ARTIFACTS": str(artifacts)}
    finished = fork_server.run(PIPELINE, [*SMALL, FEW, ALL_MEASURES, *GRID], env, cwd=undisturbed[0])
    assert finished.returncode == 0, finished.stderr
    return artifacts


@pytest.mark.parametrize(
    "path", thorough_after(1, sorted((ROOT / "notebooks").glob("*.ipynb"))), ids=lambda path: path.stem
)
def test_notebooks_read_what_a_pipeline_made(explored: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICOTA_ARTIFACTS", str(explored))
    parameters = f"overrides = {[*SMALL, FEW, ALL_MEASURES, *GRID]}\nbenchmark = 'easy'"
    finished = fork_server.run(str(ROOT / "tests" / "run_notebook.py"), [str(path), parameters], os.environ)
    assert finished.returncode == 0, finished.stderr
    shown = json.loads(finished.stdout.splitlines()[-1])
    assert sum(bool(outputs) for outputs in shown) >= 3, "a notebook shows what it reads"
    assert "TA merged at 0.5" in (text := json.dumps(shown)) or "micota" in text


@pytest.mark.slow
def test_a_notebook_runs_in_a_kernel(explored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICOTA_ARTIFACTS", str(explored))
    path = ROOT / "notebooks" / "01_compare_recipes.ipynb"
    notebook = read_notebook(path, f"overrides = {[*SMALL, FEW, ALL_MEASURES, *GRID]}\nbenchmark = 'easy'")
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    assert any(cell.outputs for cell in notebook.cells if cell.cell_type == "code")


def test_a_notebook_of_what_was_not_run_names_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"there is nothing to read yet; run:  micota pipeline experiment=tiny"):
        load_results(["experiment=tiny", f"artifacts={tmp_path}"])


def examples(text: str) -> Iterator[str]:
    """The blocks of Python in a page."""
    yield from re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def in_its_place(undisturbed: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The folder that a pipeline ran in, and what examples need to know: experiment=tiny is a toy of itself there."""
    monkeypatch.chdir(undisturbed[0])
    return {"micota": micota, "SETTING": [*SMALL, FEW]}


def of_the_setting(code: str) -> str:
    return code.replace('"experiment=tiny"', "*SETTING")


def test_examples_of_the_api_run(in_its_place: dict[str, Any]) -> None:
    runner = doctest.DocTestRunner()
    for name in (name for name in micota.__all__ if name != "Results"):
        text = of_the_setting(inspect.getdoc(getattr(micota, name)) or "")
        example = doctest.DocTestParser().get_doctest(text, dict(in_its_place), name, None, None)
        assert example.examples, f"{name} has no example"
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0


def test_the_page_on_the_api_runs(in_its_place: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [*examples((ROOT / "docs" / "how-to" / "python.md").read_text(encoding="utf-8"))]
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(of_the_setting(block), "docs/how-to/python.md", "exec"), in_its_place)
    assert "of 1 right" in capsys.readouterr().out
