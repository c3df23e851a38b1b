"""A chain from teacher to scores, tracked offline: what W&B will get, read back from its files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hydra
import pytest
from conftest import SMALL
from rich.console import Console
from wandb_files import OfflineRun, read_runs
from wandb_server import KEY, open_server

from micota import graph
from micota.artifacts.store import Store
from micota.cli import app as commands
from micota.config import SCHEMAS, Call, TrackerConfig
from micota.errors import ConfigError
from micota.graph.node import AnyNode
from micota.runtime.execute import execute
from micota.tracking import check_tracker, offline_runs, sync_command, track
from micota.tracking.lineage import artifact_name
from micota.tracking.runs import run_id

TRACKED = [*SMALL, "tracker=wandb", "tracker.mode=offline", "tracker.table_rows=5", "merge.density=0.3"]
Chain = tuple[Path, list[OfflineRun], list[AnyNode]]
BOTH = ["bench=[tiny_easy,tiny_medium]", "bench.medium.limit=8"]


def compose(command: str, *overrides: str) -> Any:
    call = Call(overrides=list(overrides))
    return commands.prepare(hydra.compose(command, overrides=call.overrides), SCHEMAS[command], call)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Data of the teacher, the TA tuned on them, merged and evaluated: on one benchmark, then on one more."""
    artifacts = tmp_path_factory.mktemp("tracked") / "artifacts"
    quiet = Console(quiet=True)
    with pytest.MonkeyPatch.context() as patch, hydra.initialize_config_dir(str(commands.CONF), version_base="1.3"):
        for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
            patch.setenv(variable, "")  # so that what the runs set is undone
            patch.delenv(variable)

        def composed(command: str, *overrides: str) -> Any:
            return compose(command, *TRACKED, f"artifacts={artifacts}", *overrides)

        config = composed("generate", "data=strong")
        execute(config, "generate", [graph.data(config, config.data)], quiet)
        config = composed("train", "role=ta")
        execute(config, "train", [graph.trained(config, "ta")], quiet)
        config = composed("merge", "tracker.log_models=true")
        execute(config, "merge", [graph.merged(config)], quiet)
        config = composed("evaluate", "role=ta_merged")
        execute(config, "evaluate", graph.evaluation(config), quiet)
        config = composed("evaluate", "role=ta_merged", *BOTH)
        targets = graph.evaluation(config)
        execute(config, "evaluate", targets, quiet)
    return artifacts, read_runs(artifacts), targets


def test_a_task_is_a_run_with_group_job_type_and_tags(chain: Chain) -> None:
    runs = chain[1]
    assert [(run.run["job_type"], run.run["display_name"]) for run in runs] == [
        ("generate", "strong"),
        ("train", "tiny_ta+strong"),
        ("merge", "tiny_ta+strong.dare_ties-d0.3-w0.5"),
        ("evaluate", "tiny_ta+strong.dare_ties-d0.3-w0.5"),
        ("evaluate", "tiny_ta+strong.dare_ties-d0.3-w0.5"),
    ]
    assert {(run.run["project"], run.run["run_group"], run.exit_code) for run in runs} == {("micota", "tiny", 0)}
    assert runs[0].run["tags"] == ["recipe:strong", "teacher:tiny_teacher", "seed:0"]
    assert runs[4].run["tags"] == ["teacher:tiny_teacher", "merge:dare_ties", "seed:0"]


def test_the_config_holds_what_was_run_and_compares_sweeps(chain: Chain) -> None:
    config = chain[1][4].config
    assert config["merge"] == {"method": "dare_ties", "density": 0.3, "weight": 0.5}
    assert (config["experiment"], config["seed"], config["role"]) == ("tiny", 0, "ta_merged")
    assert config["command"].startswith("micota evaluate role=ta_merged experiment=tiny ")
    [scores] = [made for folder, made in config["made"].items() if folder.startswith("scores/") and "medium" in folder]
    assert scores["config"]["grader"] == "typed" and scores["inputs"]["completions"]["key"]


def test_the_summary_holds_what_manifests_say(chain: Chain) -> None:
    artifacts, runs, targets = chain
    manifests = {node.name.rpartition("@")[2]: Store(artifacts).manifest(node) for node in targets}
    accuracies = {}
    for bench, manifest in manifests.items():
        assert manifest is not None
        accuracies[bench] = manifest.metrics["accuracy"]
        assert runs[4].summary[f"eval/{bench}/accuracy"] == pytest.approx(manifest.metrics["accuracy"])
        assert runs[4].summary[f"eval/{bench}/num_tokens"] == pytest.approx(manifest.metrics["num_tokens"])
    # The first benchmark was done by the run before; the average is over both all the same.
    assert runs[3].summary["eval/average"] == pytest.approx(accuracies["easy"])
    assert runs[4].summary["eval/average"] == pytest.approx(sum(accuracies.values()) / 2)
    assert runs[0].summary["data/examples"] == 24
    assert runs[1].summary["train/steps"] == 2
    assert [step["train/loss"] for step in runs[1].history if "train/loss" in step]


def test_tables_hold_scores_and_the_first_rows(chain: Chain) -> None:
    runs = chain[1]
    scores = runs[4].table("eval/scores")
    assert scores["columns"][:2] == ["benchmark", "accuracy"]
    assert [row[0] for row in scores["data"]] == ["easy", "medium"]
    answers = runs[4].table("eval/medium/answers")
    assert len(answers["data"]) == 5 and {"problem", "answer", "prediction", "completion"} <= set(answers["columns"])
    examples = runs[0].table("data/examples")
    assert len(examples["data"]) == 5 and all(examples["data"][0])


def test_lineage_leads_from_the_scores_to_the_teacher(chain: Chain) -> None:
    _, runs, targets = chain
    maker = {name: run for run in reversed(runs) for name in run.logged}
    reached = [artifact_name(node) for node in targets if node.name.endswith("@medium")]
    for name in reached:
        reached += [used for used in (maker[name].used if name in maker else ()) if used not in reached]
    kinds = [maker[name].run["job_type"] if name in maker else "source" for name in reached]
    assert kinds == ["evaluate", "merge", "source", "train", "generate", "source"]
    assert reached[-1].startswith("tiny_teacher-") and reached[2].startswith("tiny_ta-")


def test_an_artifact_is_the_same_to_all_who_use_it(chain: Chain) -> None:
    runs = chain[1]
    logged = {name: artifact["digest"] for run in runs for name, artifact in run.logged.items()}
    used = [(name, a["digest"]) for run in runs for name, a in run.used.items() if name in logged]
    assert len(used) >= 4 and all(logged[name] == digest for name, digest in used)
    for run in runs:
        for artifact in [*run.used.values(), *run.logged.values()]:
            for entry in artifact["manifest"]["contents"]:
                assert Path(entry["local_path"]).exists(), "wandb sync would not find it"
    model = runs[2].logged["tiny_ta.strong.dare_ties-d0.3-w0.5-" + name_key(runs[2])]
    about = json.loads(model["metadata"])
    assert Path(about["path"], "model.safetensors").exists() and about["metrics"]["task_vector_norm"] > 0


def name_key(run: OfflineRun) -> str:
    [folder] = run.config["made"]
    return folder.rpartition("-")[2]


def test_models_are_uploaded_only_on_request_and_from_where_they_are(chain: Chain) -> None:
    artifacts, runs, _ = chain
    weights = {name: a for run in runs for name, a in run.logged.items() if a["type"] == "weights"}
    [(name, artifact)] = weights.items()
    assert name in runs[2].logged
    paths = {entry["path"]: entry["local_path"] for entry in artifact["manifest"]["contents"]}
    assert Path(paths["model.safetensors"]).is_relative_to(artifacts / "models")


def test_the_command_uploads_all_of_it_in_order(chain: Chain, tmp_path: Path) -> None:
    artifacts, runs, _ = chain
    config = SimpleNamespace(plan=False, artifacts=str(artifacts), tracker=TrackerConfig(name="wandb", mode="offline"))
    sync = sync_command(config, set())  # type: ignore[arg-type]
    assert sync is not None
    with open_server() as server:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = os.environ | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "PATH": path, "HOME": str(tmp_path)}
        finished = subprocess.run(sync, shell=True, capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
    assert finished.returncode == 0, finished.stderr
    started = [run for run in server.variables("UpsertBucket") if run["name"]]
    assert [run["name"] for run in started] == [run.run["run_id"] for run in runs]
    assert [run["jobType"] for run in started] == [run.run["job_type"] for run in runs]
    # What offline runs recorded as used is declared as used, under the very id that it had when it was logged.
    used = [(use["input"]["runName"], use["input"]["artifactID"]) for use in server.variables("UseArtifact")]
    expected = [(run.run["run_id"], f"{name}:{a['digest']}") for run in runs for name, a in run.used.items()]
    assert sorted(used) == sorted(expected)
    assert sync_command(config, offline_runs(config)) is None, "this command tracked nothing"  # type: ignore[arg-type]


def test_a_run_that_fails_is_marked(tmp_path: Path, composed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    config = composed("generate", *TRACKED, "data=strong", f"artifacts={tmp_path}")
    with pytest.raises(RuntimeError), track(config, [graph.data(config, config.data)]):
        raise RuntimeError
    assert [run.exit_code for run in read_runs(tmp_path)] == [1]
    assert sync_command(config, set()) == f'for run in {tmp_path}/wandb/offline-run-*; do wandb sync "$run"; done'
    assert sync_command(config, offline_runs(config)) is None, "this command tracked nothing"


def test_online_without_a_key_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    online = TrackerConfig(name="wandb", mode="online")
    with pytest.raises(ConfigError, match=r"tracker\.mode=online, but there is no API key .* tracker=none"):
        check_tracker(online)
    monkeypatch.setenv("WANDB_API_KEY", "too-short")
    with pytest.raises(ConfigError, match=r"tracker\.mode=online: .*; accepted: a valid WANDB_API_KEY"):
        check_tracker(online)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    check_tracker(online)
    check_tracker(TrackerConfig(name="none"))


def test_generation_tells_its_speed_and_how_long_answers_are(chain: Chain) -> None:
    run = chain[1][0]
    prefix = "generate/tiny_teacher@tiny"
    keys = {key for step in run.history for key in step}
    assert {f"{prefix}/{name}" for name in ("done", "tokens_per_s", "eta_s", "accept_rate")} <= keys
    for name in ("lengths", "speeds"):
        assert run.summary[f"{prefix}/{name}._type"] == "histogram"


def test_ids_of_runs_sort_by_when_they_began() -> None:
    ids = [run_id() for _ in range(1000)]
    began = [identity[:16] for identity in ids]
    assert began == sorted(began) and len(set(ids)) == 1000
    assert all(identity.isalnum() for identity in ids)
