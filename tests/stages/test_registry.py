"""A kind of node that no other file knows: it runs, and the plan, the console, lineage and the tracker show it."""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fork_server import ROOT
from rich.console import Console
from wandb_files import read_runs

from micota import graph
from micota.artifacts.jsonl import read_jsonl, write_jsonl
from micota.artifacts.manifest import read_manifest
from micota.artifacts.store import Store
from micota.config import Call, PipelineConfig
from micota.errors import ConfigError
from micota.graph import stage as registry
from micota.graph.node import AnyNode, Node, Spec
from micota.graph.stage import Counts, Stage, register, registered, stage_of
from micota.records import DATA, Example
from micota.report.lineage import Steps, trace
from micota.runtime.execute import execute
from micota.runtime.plan import tasks_of
from micota.runtime.runners import open_runner, run_tasks
from micota.runtime.work import Work

Composed = Callable[..., Any]
SETTINGS = ["experiment=tiny", "data=strong", "data.generator=none", "select.num_examples=null"]


@dataclass(frozen=True, kw_only=True)
class WordCountSpec(Spec):
    """The words of a recipe's completions."""

    stage = "word_count"
    kind = "word_counts"
    min_letters: int


def word_count(work: Work[WordCountSpec]) -> None:
    """Count the words of the data, and write them."""
    data = work.store.path(work.node.inputs["data"]) / DATA
    words = [word for row in read_jsonl(data, Example) for word in row.completion.split()]
    long = [word for word in words if len(word) >= work.node.spec.min_letters]
    work.run.log({"word_count/so_far": len(long)})
    (work.build.path / "words.txt").write_text("\n".join(long), encoding="utf-8")
    work.build.counts |= {"words": len(long)}
    work.build.metrics |= {"share": len(long) / len(words)}


def check(config: Any, node: Node[WordCountSpec]) -> None:
    """Refuse what would count nothing."""
    if node.spec.min_letters > 9:
        raise ConfigError("min_letters is above 9")


def describe(node: AnyNode, counts: Counts) -> str:
    return f"words of {node.spec.min_letters} letters and more: {counts.get('words', 'not counted yet')}"


def record(**changes: Any) -> Stage:
    fields: dict[str, Any] = {
        "name": "word_count",
        "specs": (WordCountSpec,),
        "run": f"{__name__}:word_count",
        "check": f"{__name__}:check",
        "label": "words",
        "section": "word_count",
        "describe": describe,
        "headline": lambda node, counts: f"{counts['words']} words",
        "module": __name__,
    }
    return Stage(**fields | changes)


if multiprocessing.parent_process() is not None:  # a worker of a pipeline imports this file to know the stage
    register(record())


@pytest.fixture
def known() -> Iterator[None]:
    register(record())
    yield
    del registry._stages["word_count"]


def nodes(config: Any, folder: Path, min_letters: int = 3) -> list[AnyNode]:
    """The user's rows, and the words of them."""
    texts = ["one two three", "a bb ccc dddd"]
    rows = [
        Example(problem_id=f"p{index}", messages=[{"role": "user", "content": "?"}], completion=text, num_tokens=1,
                source="mine")
        for index, text in enumerate(texts)
    ]  # fmt: skip
    write_jsonl(folder / "mine.jsonl", rows)
    data = replace(graph.data(config, config.data), command="evaluate", choose={})
    spec = WordCountSpec(min_letters=min_letters)
    return [data, Node(name="mine.words", spec=spec, inputs={"data": data}, command="evaluate")]


def compose(composed: Composed, folder: Path, *overrides: str, command: str = "evaluate") -> Any:
    (folder / "mine.jsonl").touch()
    return composed(command, *SETTINGS, f"data.path={folder}/mine.jsonl", f"artifacts={folder}/artifacts", *overrides)


def printed() -> Console:
    return Console(file=io.StringIO(), width=200, soft_wrap=True)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.usefixtures("known")
def test_it_is_planned_made_and_tracked(composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(variable, "")  # so that what the run sets is undone
        monkeypatch.delenv(variable)
    config = compose(composed, tmp_path, "tracker=wandb", "tracker.mode=offline")
    targets = nodes(config, tmp_path)
    execute(replace(config, plan=True), "evaluate", targets, console := printed())
    assert f"make    {targets[-1].folder}" in text_of(console)
    execute(config, "evaluate", targets, Console(quiet=True))

    store = Store(config.artifacts)
    manifest = store.manifest(targets[-1])
    assert manifest is not None and (manifest.stage, manifest.counts) == ("word_count", {"words": 5})
    steps: Steps = {}
    trace(steps, store, targets[-1:], Call(), seed=0)
    assert steps[targets[-1].folder]["label"] == "words"
    assert steps[targets[-1].folder]["description"] == "words of 3 letters and more: 5"
    [run] = read_runs(tmp_path / "artifacts")
    assert run.summary["word_count/words"] == 5 and run.summary["word_count/share"] == pytest.approx(5 / 7)
    assert any(name.startswith("mine.words-") for name in run.logged)
    assert [step["word_count/so_far"] for step in run.history if "word_count/so_far" in step] == [5]


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("runner", ["inprocess", "workers"])
def test_a_pipeline_runs_it_and_prints_its_headline(
    composed: Composed, tmp_path: Path, runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))  # workers import this file by its name
    config: PipelineConfig = compose(composed, tmp_path, "tracker=none", f"runner={runner}", command="pipeline")
    targets = nodes(config, tmp_path)
    console, store = printed(), Store(config.artifacts)
    with open_runner(config, 1, store, console, {node.folder: config for node in targets}) as run:
        run_tasks(tasks_of(targets), run, 1, console)
    assert "5 words" in text_of(console)
    assert read_manifest(store.path(targets[-1])).metrics["share"] == pytest.approx(5 / 7)


@pytest.mark.usefixtures("known")
def test_its_check_runs_before_anything_is_made(composed: Composed, tmp_path: Path) -> None:
    config = compose(composed, tmp_path, "tracker=none")
    with pytest.raises(ConfigError, match="above 9"):
        execute(config, "evaluate", nodes(config, tmp_path, min_letters=12), Console(quiet=True))
    assert not (tmp_path / "artifacts").exists()


class NoKindSpec(Spec):
    stage = "word_count"


class OtherStageSpec(Spec):
    stage = "words"
    kind = "word_counts"


@pytest.mark.parametrize(("changes", "text"), [
    ({"name": "train"}, "stage 'train': it is registered twice"),
    ({"specs": ()}, "it has no spec"),
    ({"specs": (NoKindSpec,)}, "NoKindSpec has no kind; set it as a class variable"),
    ({"specs": (OtherStageSpec,)}, "OtherStageSpec.stage is 'words'; accepted: 'word_count'"),
    ({"label": ""}, "label is empty"),
    ({"section": ""}, "section is empty"),
    ({"run": ""}, "run is empty, and nothing else makes its artifacts; accepted: 'module:function'"),
    ({"run": "micota.stages.words:count"}, "run='micota.stages.words:count': there is no such function"),
    ({"run": "micota.stages.train:count"}, "run='micota.stages.train:count': there is no such function"),
    ({"check": "nowhere"}, "check='nowhere': there is no such function"),
])  # fmt: skip
def test_a_half_done_stage_is_refused_where_it_is_registered(changes: dict[str, Any], text: str) -> None:
    before = registered()
    with pytest.raises(TypeError) as caught:
        register(record(**changes))
    assert text in str(caught.value)
    assert registered() == before


def test_a_stage_without_a_required_field_is_refused() -> None:
    with pytest.raises(TypeError, match="label"):
        Stage(name="words", specs=(WordCountSpec,), section="words", describe=describe, module=__name__)  # type: ignore[call-arg]


def test_a_stage_that_nobody_registered_is_named() -> None:
    node = Node(name="mine", spec=WordCountSpec(min_letters=1))
    with pytest.raises(LookupError, match=r"no stage is called 'word_count'; registered: .*train"):
        stage_of(node)
