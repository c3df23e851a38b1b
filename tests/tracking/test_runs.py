"""A chain from teacher to scores, tracked offline: what W&B will get, read back from its files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fork_server
import hydra
import psutil
import pytest
from conftest import SMALL
from rich.console import Console
from wandb_files import OfflineRun, columns, read_runs
from wandb_server import KEY, open_server

from micota import graph
from micota.artifacts.manifest import read_manifest
from micota.artifacts.store import Store
from micota.cli import app as commands
from micota.cli.evaluate import evaluate
from micota.config import SCHEMAS, Call, TrackerConfig
from micota.errors import ConfigError
from micota.graph.node import AnyNode
from micota.runtime.execute import execute
from micota.tracking import check_tracker, offline_runs, sync_command, track
from micota.tracking.lineage import artifact_name
from micota.tracking.runs import WandbRun, run_id

TRACKED = [*SMALL, "tracker=wandb", "tracker.mode=offline", "tracker.table_rows=5", "merge.density=0.3"]
Composed = Callable[..., Any]
Chain = tuple[Path, list[OfflineRun], list[AnyNode]]
BEGUN = f"{1:020x}"  # the id of the run of a killed command
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
        begun = graph.data(config, config.data).inputs["completions"]
        with pytest.raises(RuntimeError), Store(artifacts).build(begun, 0) as build:  # a tracked command is killed
            assert build is not None
            build.begin_run(BEGUN)
            raise RuntimeError
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
    [scores] = [made for made in config["made"] if re.match("scores/.*medium", made["artifact"])]
    assert scores["config"]["grader"] == "typed" and scores["inputs"]["completions"]["key"]


def test_runs_of_one_kind_have_the_same_columns(chain: Chain) -> None:
    runs = chain[1]
    assert columns(runs[3].config) == columns(runs[4].config)
    assert not [name for run in runs for name in columns(run.config) if re.search("[0-9a-f]{10}", name)]


def test_a_continued_build_continues_its_run(chain: Chain) -> None:
    artifacts, runs, _ = chain
    assert [run.run["run_id"] == BEGUN for run in runs] == [True, False, False, False, False]
    assert not list(artifacts.rglob(".run"))
    manifests = [read_manifest(path.parent) for path in artifacts.glob("completions/*/manifest.json")]
    assert BEGUN in {manifest.run for manifest in manifests}


def test_a_command_is_one_run_with_one_summary_cached_or_not(
    chain: Chain, tmp_path: Path, composed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a sweep of W&B, whose agent gives the id of the run."""
    artifacts = tmp_path / "artifacts"
    shutil.copytree(chain[0], artifacts, ignore=shutil.ignore_patterns("wandb"))
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    config = composed("evaluate", *TRACKED, f"artifacts={artifacts}", "role=ta_merged", *BOTH)
    values = []
    for number in range(3):
        monkeypatch.setenv("WANDB_RUN_ID", f"trial{number}")
        if number == 0:
            for node in graph.evaluation(config):
                Store(artifacts).forget(node)
        values.append(evaluate(config))
    runs = read_runs(artifacts)
    assert [run.run["run_id"] for run in runs] == ["trial0", "trial1", "trial2"]
    assert values[0] == values[1] == values[2] == pytest.approx(chain[1][4].summary["eval/average"])
    for run in runs:
        assert run.summary["objective"] == run.summary["eval/average"] == values[0]
        assert run.exit_code == 0 and columns(run.config) == columns(runs[0].config)
        assert "eval/medium/accuracy" in run.summary and len(run.config["made"]) == 4


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
    [made] = run.config["made"]
    key: str = made["artifact"].rpartition("-")[2]
    return key


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


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), ConfigError("x")])
def test_what_ends_before_the_first_report_leaves_no_run(error: BaseException) -> None:
    opened: list[int] = []
    run = WandbRun(lambda: opened.append(1), TrackerConfig(name="wandb"), "id")
    run.fail(error)
    assert not opened


def test_an_import_that_was_interrupted_ends_the_tracking_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import of it fails
    run = WandbRun(lambda: None, TrackerConfig(name="wandb"), "id")
    run.lose(AttributeError("partially initialized module 'wandb'"))
    assert run.is_lost


def test_what_is_refused_before_it_begins_leaves_no_run(tmp_path: Path, composed: Any) -> None:
    config = composed("generate", *TRACKED, "data=strong", f"artifacts={tmp_path}")
    with pytest.raises(ConfigError), track(config, [graph.data(config, config.data)]):
        raise ConfigError("no")
    assert not list(tmp_path.iterdir())


ONLINE = """
import sys
from micota import api, graph
from micota.tracking import track

online = ["tracker=wandb", "tracker.mode=online", f"artifacts={sys.argv[1]}"]
config = api.compose(["experiment=tiny", "data=strong", *online], "generate")
with track(config, [graph.data(config, config.data)], (), sys.argv[2], print) as run:
    run.log({"loss": 1.0}, step=1)
    print(run.id, run.address)
"""


def test_an_online_run_shows_its_address_and_is_continued_by_its_id(tmp_path: Path) -> None:
    (tmp_path / "online.py").write_text(ONLINE)
    with open_server() as server:
        env = os.environ | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "HOME": str(tmp_path)}
        finished = fork_server.run(str(tmp_path / "online.py"), [str(tmp_path / "artifacts"), BEGUN], env, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    url = f"{server.url}/someone/micota/runs/{BEGUN}"
    assert finished.stdout.splitlines() == [url, f"{BEGUN} {url}"]
    assert [resumed["name"] for resumed in server.variables("RunResumeStatus")] == [BEGUN]
    assert {run["name"] for run in server.variables("UpsertBucket")} - {None} == {BEGUN}


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


def test_a_dead_process_of_wandb_never_ends_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], composed: Composed
) -> None:
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "wandb"))
    config = composed("generate", *TRACKED, f"artifacts={tmp_path / 'artifacts'}", "data=strong")
    node, store = graph.data(config, config.data), Store(config.artifacts)
    for _ in range(2):  # the next run starts a process of its own
        with track(config, [node]) as run:
            run.log({"loss": 1.0}, step=1)
            for process in psutil.Process().children(recursive=True):
                if "wandb-core" in " ".join(process.cmdline()):
                    process.kill()
                    process.wait(30)
            run.log({"loss": 0.5}, step=2)
            with store.build(node, 0) as build:
                assert build is not None
                build.run = run.address
            manifest = store.manifest(node)
            assert manifest is not None
            run.made(node, store.path(node), manifest)
            run.table("samples", ["a"], [[1]])
            run.histogram("lengths", [1.0])
        assert capsys.readouterr().err.count("the run of W&B has ended (") == 1
        store.forget(node)
