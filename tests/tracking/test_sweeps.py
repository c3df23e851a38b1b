"""The searches of docs/how-to/sweeps.md: a trial of Optuna's makes everything, and the same one in W&B is cached."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import fork_server
import pytest
import yaml
from conftest import SMALL
from fork_server import ROOT
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args
from wandb_files import columns, read_runs

PIPELINE = str(ROOT / "pipeline.py")
LEVELS = ("easy", "medium", "hard")
FEWER = [item for item in SMALL if not item.startswith(("experiment=", "bench=", "bench.", "tracker="))]
FEWER += ["tracker.mode=offline", *(f"bench.{level}.limit=8" for level in LEVELS), "runner=inprocess"]
SWEEP = yaml.safe_load((ROOT / "docs" / "sweep.yaml").read_text(encoding="utf-8"))


def optuna_words() -> list[str]:
    """The words of the Optuna command in the docs, with one trial."""
    page = (ROOT / "docs" / "how-to" / "sweeps.md").read_text(encoding="utf-8")
    [line] = re.findall(r"^micota pipeline -m hydra/sweeper=optuna (?:.*\\\n)*.*$", page, flags=re.MULTILINE)
    words = line.replace("\\\n", " ").split()
    assert words[:2] == ["micota", "pipeline"]
    return [re.sub("n_trials=.*", "n_trials=1", word) for word in words[2:]]


def agent_words(parameters: dict[str, Any]) -> list[str]:
    """The words that W&B's agent makes of the sweep for these values (``wandb_agent.Agent._command_run``)."""
    arguments = create_sweep_command_args({"args": {name: {"value": value} for name, value in parameters.items()}})
    words = []
    for word in create_sweep_command(SWEEP["command"]):
        words += arguments[word[2:-1]] if word.startswith("${") else [word]
    assert words[:2] == ["micota", "pipeline"]
    return [word for word in words[2:] if not word.startswith("tracker.mode=")]


def test_the_page_shows_the_sweep_of_the_file() -> None:
    page = (ROOT / "docs" / "how-to" / "sweeps.md").read_text(encoding="utf-8")
    shown = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)[0])
    assert shown == {name: value for name, value in SWEEP.items() if name != "project"}


@pytest.mark.thorough  # the other tests read the settings of such a search
def test_a_trial_is_one_run_with_one_summary_made_or_cached(tmp_path: Path) -> None:
    """A minute on a busy machine: the whole method once, from the teacher to the student's scores."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs the extra optuna")
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    env["MICOTA_ARTIFACTS"] = str(tmp_path / "artifacts")
    searched = fork_server.run(PIPELINE, [*optuna_words(), *FEWER], env, cwd=tmp_path)
    assert searched.returncode == 0, searched.stderr
    results = yaml.safe_load((tmp_path / "artifacts" / "sweeps" / "optimization_results.yaml").read_text())
    assert results["best_params"].keys() == SWEEP["parameters"].keys()

    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(yaml.safe_dump({name: {"value": value} for name, value in results["best_params"].items()}))
    env |= {"WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": "trial", "WANDB_SWEEP_PARAM_PATH": str(parameters)}
    cached = fork_server.run(PIPELINE, [*agent_words(results["best_params"]), *FEWER], env, cwd=tmp_path)
    assert cached.returncode == 0 and ", 0 to make" in cached.stdout, cached.stderr

    made, again = read_runs(tmp_path / "artifacts")
    assert again.run["run_id"] == "trial"
    for run in (made, again):
        assert run.summary[SWEEP["metric"]["name"]] == results["best_value"] == run.summary["micota/average"]
        assert run.config["merge"]["density"] == results["best_params"]["merge.density"]
        assert run.config["sft"]["learning_rate"] == results["best_params"]["student.sft.learning_rate"]
        scores = [run.summary[f"micota/{level}/accuracy"] for level in LEVELS]
        assert run.summary["micota/average"] == pytest.approx(sum(scores) / len(scores))
    assert columns(again.config) == columns(made.config) | results["best_params"].keys()
    assert len(made.config["made"]) == len(again.config["made"]) > 8


def test_a_search_without_an_objective_is_one_clear_error(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs the extra optuna")
    finished = fork_server.run(PIPELINE, [*optuna_words(), *FEWER, "plan=true"], os.environ, cwd=tmp_path)
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-1].startswith("error: hydra/sweeper=optuna: plan=true has no objective;")
    assert not list(tmp_path.iterdir())
