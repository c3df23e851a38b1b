"""The tool artifacts on a store with the data of the toy experiment."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from micota import graph
from micota.artifacts.store import Store
from micota.cli import artifacts as tool
from micota.cli import experiments
from micota.cli.composing import composing, prepared
from micota.config import TOOLS
from micota.graph.node import AnyNode

TINY = ["experiment=tiny", "compare.recipes=[strong]", "compare.measures=[scores]"]  # composed in a second


def make(store: Store, node: AnyNode) -> None:
    with store.build(node, 0, "tiny", "micota generate data=strong") as build:
        assert build is not None
        (build.path / "data.jsonl").write_text("payload")
        build.counts["examples"] = 3


def other(node: AnyNode, name: str) -> AnyNode:
    """An artifact that no experiment needs."""
    return replace(node, name=name, spec=replace(node.spec, recipe=name))


@pytest.fixture(scope="module")
def nodes() -> dict[str, AnyNode]:
    """Data of the toy experiment, and nodes that it does not need."""
    with composing(None):
        config = prepared(TINY, "pipeline", None)
        targets = graph.experiment(experiments.cases(config)).targets()
    strong = next(node for node in graph.unique(targets) if node.name == "strong")
    return {"strong": strong, "mine": other(strong, "mine"), "begun": other(strong, "begun")}


@pytest.fixture
def store(tmp_path: Path, nodes: dict[str, AnyNode], monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store(tmp_path / "artifacts")
    make(store, nodes["strong"])
    make(store, nodes["mine"])
    with pytest.raises(RuntimeError), store.build(nodes["begun"], 0):
        raise RuntimeError
    monkeypatch.setenv("MICOTA_ARTIFACTS", str(store.root))
    monkeypatch.setenv("COLUMNS", "80")
    return store


def names(store: Store) -> list[str]:
    return sorted(re.sub("-[0-9a-f]{10}", "", path.name) for path in (store.root / "data").iterdir())


def test_the_tool_lists_finds_shows_and_cleans(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> str:
        assert tool.run(words) == 0
        return capsys.readouterr().out

    lines = said("list").splitlines()
    assert all(len(line.rstrip()) <= 80 for line in lines[:-1])  # the last has the folder
    assert re.match(r"strong-\w{10} .* kB +\d+ s +complete +tiny", next(line for line in lines if "strong" in line))
    assert "partial" in next(line for line in lines if line.startswith("begun"))
    assert lines[-1].startswith("3 artifacts, ")
    rows = json.loads(said("list", *TINY, "--json"))
    assert {row["name"]: row["experiments"] for row in rows} == {"strong": ["tiny"], "mine": [], "begun": []}
    assert said("path", "mine").strip() == str(next(store.root.glob("data/mine-*")))
    shown = said("show", "strong")
    assert re.search(r"command +micota generate data=strong\n", shown) and re.search(r"examples +3\n", shown)
    assert json.loads(said("show", "strong", "--json"))["manifest"]["counts"] == {"examples": 3}

    assert "1 artifacts that are not complete" in said("clean") and "begun.partial" in names(store)
    assert said("clean", "--yes").splitlines()[-1].startswith("deleted 1 artifacts that are not complete")
    assert names(store) == ["mine", "strong"]
    assert "--yes deletes them" in said("clean", *TINY) and len(names(store)) == 2
    said("clean", *TINY, "seed=0,1", "--yes")
    assert names(store) == ["strong"], "the experiment needs it"


MISTAKES = [
    (["lst"], "'lst' is no action; did you mean 'list'.; accepted: list, path, show, verify, clean"),
    (["path"], "path takes one NAME, and 0 are given"),
    (["list", "mine"], "list takes no NAME, as 'mine'"),
    (["list", "--yes"], "--yes belongs to clean, not to list"),
    (["list", "--force"], "unrecognized arguments: --force"),
    (["path", "min"], "'min': no such artifact in .*; did you mean 'mine'"),
    (["path", "mine", "seed=1"], "artifacts path takes no seed=1; accepted: NAME, artifacts=FOLDER"),
    (["clean", "experiment=tin"], "experiment=tin: no such option; .*accepted: .*tiny"),
    (["clean", "experiment=[", "--yes"], "accepted: KEY=VALUE"),
    (["list", "artifacts=nowhere"], "artifacts='nowhere': there is no such folder"),
]


def test_mistakes_are_one_line_and_delete_nothing(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    before = names(store)
    for words, text in MISTAKES:
        assert tool.run(words) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and re.search(text, line), line
    assert names(store) == before


def test_the_help_has_all_actions_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {action} " in shown for action in tool.ACTIONS)
    assert all(f"  micota artifacts {example}\n" in shown for example in TOOLS["artifacts"].examples)
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1200, "1.2 kB"), (28e9, "28.0 GB"), (3e15, "3000 TB")]
)
def test_sizes_have_one_unit(count: float, text: str) -> None:
    assert tool.size_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59, "59 s"), (90, "2 min"), (3600, "1 h"), (400 * 86400, "400 d")]
)
def test_ages_have_one_unit(seconds: float, text: str) -> None:
    assert tool.age_text(seconds) == text
