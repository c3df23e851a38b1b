from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import case_of

from micota import graph
from micota.artifacts.manifest import Manifest
from micota.artifacts.store import Store
from micota.errors import ArtifactError, ConfigError
from micota.graph.node import AnyNode
from micota.runtime.execute import execute
from micota.runtime.plan import pending, tasks_of, why
from micota.runtime.runners import default_jobs, headline

Composed = Callable[..., Any]


def test_tasks_come_after_what_they_read(composed: Composed) -> None:
    recipes = [
        composed("generate", "experiment=tiny", f"data={recipe}") for recipe in ("instruct", "mix_large", "micota")
    ]
    nodes = graph.unique(graph.comparison(case_of(recipes)).targets())
    tasks = tasks_of(nodes)
    assert sum(len(task.nodes) for task in tasks) == len(nodes)
    made: set[str] = set()
    for task in tasks:
        assert set(task.needs()) <= made, task.id
        made |= {node.folder for node in task.nodes}


def test_what_is_done_hides_what_it_was_made_from(composed: Composed, tmp_path: Path) -> None:
    config = composed("train", "experiment=tiny", "data=strong")
    store = Store(tmp_path)
    data = graph.data(config, config.data)
    student = graph.trained(config, "student")
    assert [node.stage for node in pending(store, [student])] == ["generate", "select", "train"]
    with store.build(data, seed=0):
        pass
    assert [node.stage for node in pending(store, [student])] == ["train"]


def test_why_names_what_changed(composed: Composed, tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = composed("generate", "data=strong")
    with store.build(graph.data(old, old.data), seed=0, experiment=old.name):
        pass
    new = composed("generate", "data=strong", "select.max_tokens=99")
    assert why(new, store, graph.data(new, new.data)) == "  changed: select.max_tokens: 16000 -> 99"
    many = composed("generate", "data=strong", "select.match=none", "select.num_examples=3", "select.filters=[]",
                    "select.keep_sample=median", "prompt.system=" + "x" * 99)  # fmt: skip
    line = why(many, store, graph.data(many, many.data))
    assert re.fullmatch(r"  changed: [^>]*->[^>]*->[^>]*-> \S+ and \d more", line) and len(line) < 300
    other = composed("generate", "data=strong", "select.max_tokens=99", "name=other")
    assert why(other, store, graph.data(other, other.data)) == "", "another experiment changed nothing"


def test_a_command_makes_only_the_artifacts_of_its_name(composed: Composed, tmp_path: Path) -> None:
    config = composed("train", "experiment=tiny", "data=micota", f"artifacts={tmp_path}")
    with pytest.raises(ArtifactError, match="micota train role=ta") as caught:
        execute(config, "train", [graph.trained(config, "student")])
    assert "needs data micota" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_jobs_by_default(composed: Composed) -> None:
    assert default_jobs(composed("pipeline")) == 1
    assert default_jobs(composed("pipeline", "experiment=tiny")) >= 1
    assert default_jobs(composed("pipeline", "experiment=tiny", "runner=inprocess")) == 1


def test_a_headline_is_about_what_was_wanted_and_about_every_benchmark(composed: Composed) -> None:
    config = composed("generate", "experiment=tiny", "data=mix_large")
    [*_, task] = tasks_of(graph.unique([graph.data(config, config.data)]))
    assert len([node for node in task.nodes if node.stage == "select"]) > 1
    figures = {"examples": 8, "num_tokens": 3.0, "accuracy": 0.5}
    assert headline(task, [made(node, figures) for node in task.nodes]) == "8 examples, 3 tokens each"
    config = composed("evaluate", "experiment=tiny", "data=instruct")
    [*_, task] = tasks_of(graph.unique(graph.evaluation(config)))
    assert headline(task, [made(node, figures) for node in task.nodes]) == "easy 50.0 %, medium 50.0 %, hard 50.0 %"
    config = composed("evaluate", "experiment=tiny", "data=short")
    [*_, task] = tasks_of(graph.unique(graph.evaluation(config)))
    shown = headline(task, [made(node, figures | {"bits_per_byte": 0.5}) for node in task.nodes])
    assert shown == "easy 50.0 %, medium 50.0 %, hard 50.0 %, BPC 0.500", "scores and BPC are wanted alike"


def made(node: AnyNode, metrics: dict[str, float]) -> Manifest:
    empty: dict[str, Any] = {"config": {}, "inputs": {}, "counts": {}, "versions": {}, "hardware": {}, "files": {}}
    words = {"stage": node.stage, "name": node.name, "key": node.key, "commit": None, "finished_at": ""}
    return Manifest(schema_version=3, metrics=metrics, seed=0, seconds=1.0, **words, **empty)


def test_rounds_of_training_are_refused_where_a_launcher_started_the_ranks(
    composed: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed("train", "experiment=tiny", "data=annealed", "curriculum=steered_annealing")
    config.artifacts = str(tmp_path)
    for rank in ("0", "1"):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(ConfigError, match=r"under torchrun or srun: .* accepted: one process on one node"):
            execute(config, "train", [graph.trained(config, "student")])


def test_probabilities_that_are_not_stored_yet_are_refused_where_a_launcher_started_the_ranks(
    composed: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["objective=logit_kd", "objective.merge_weights=[0.2,0.7]", "objective.top_k=4", "objective.stored=float16"]
    config = composed("train", "experiment=tiny", "data=strong", *words, "student.sft.max_flops=1e9")
    config.artifacts = str(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(
        ConfigError, match=r"in one process with student\.sft\.max_steps=2 student\.sft\.max_flops=null"
    ):
        execute(config, "train", [graph.trained(config, "student")])
