"""The worked examples of CONTRIBUTING.md and of the tutorial, executed as they stand."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest
from fork_server import ROOT
from rich.console import Console

import micota.engines
import micota.graph
import micota.stages
from micota.analysis.statistics import Estimate
from micota.artifacts.store import Store
from micota.config import MERGE_METHODS, SamplingConfig
from micota.data.filters import Filters
from micota.data.sources import model_folder
from micota.engines import open_engine
from micota.engines.base import Request
from micota.graph import stage as stages
from micota.graph.nodes import merged
from micota.records import Completion, Verdict
from micota.report.rows import Row
from micota.runtime.execute import execute

Command = Callable[..., subprocess.CompletedProcess[str]]
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def section(page: str, heading: str) -> list[tuple[str, str, str]]:
    """The code blocks below a heading: language, title, text."""
    text = (ROOT / page).read_text(encoding="utf-8")
    _, _, rest = text.partition(f"## {heading}\n")
    assert rest, f"{page} has no section {heading!r}"
    return BLOCK.findall(re.split(r"^## ", rest, flags=re.MULTILINE)[0])


def tutorial() -> list[tuple[str, str, str]]:
    """The code blocks of the tutorial."""
    return BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"))


def write(blocks: list[tuple[str, str, str]], folder: Path) -> None:
    """The files of blocks: those of ``conf/`` into a folder of the user's own."""
    for language, title, text in blocks:
        if title and language != "python":
            path = folder / title.replace("conf/", "mine/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def lines(blocks: list[tuple[str, str, str]]) -> list[list[str]]:
    return [shlex.split(line) for language, _, text in blocks if language == "bash" for line in text.splitlines()]


def namespace(blocks: list[tuple[str, str, str]], title: str = "") -> dict[str, Any]:
    """What Python blocks define, one after another in one module."""
    module = types.ModuleType("contributed")
    for language, name, text in blocks:
        if language == "python" and (not title or name == title):
            exec(compile(text, name, "exec", dont_inherit=True), module.__dict__)
    return module.__dict__


@pytest.mark.parametrize("heading", ["Add a model", "Add a recipe", "Add a benchmark"])
def test_what_yaml_adds(run_command: Command, tmp_path: Path, heading: str) -> None:
    blocks = section("CONTRIBUTING.md", heading)
    write(blocks, tmp_path)
    name = next(Path(title).stem for _, title, _ in blocks if title.startswith("conf/"))
    for program, command, *arguments in lines(blocks):
        assert program == "micota"
        finished = run_command(command, "--config-dir", "mine", *arguments)
        assert finished.returncode == 0, finished.stderr
        assert name in finished.stdout


@pytest.mark.usefixtures("open_tables")
def test_a_merge_method_is_an_option(composed: Callable[..., Any]) -> None:
    namespace(section("CONTRIBUTING.md", "Add a merge method"))
    assert "keep_largest" in MERGE_METHODS
    node = merged(composed("merge", "merge=keep_largest"))
    assert node.name.endswith(".keep_largest-d0.25-w1")


@pytest.mark.usefixtures("open_tables")
def test_a_filter_drops_with_its_reason(composed: Callable[..., Any]) -> None:
    namespace(section("CONTRIBUTING.md", "Add a filter"))
    filters = Filters(composed("generate", "select.filters=[finished,boxed]").select)
    verdict = Verdict(prediction="7", correct=True, reason="equal")
    assert filters.reason_to_drop(completion("so 7"), verdict) == "not_boxed"
    assert filters.reason_to_drop(completion(r"\boxed{7}"), verdict) is None


def test_a_metric_has_a_column_on_the_page() -> None:
    blocks = section("CONTRIBUTING.md", "Add a metric to the page")
    title = "src/micota/report/rows.py"
    extended = type("Extended", (Row,), {"truncated_share": namespace(blocks, title)["truncated_share"]})
    estimate = Estimate(0.5, 0.4, 0.6)
    row = extended(
        name="mine", by_benchmark={}, average=estimate, seed_sd=None, num_tokens=1.0, bits_per_byte=None,
        tokens={"correct": [1, 1, 1], "truncated": [1]}, data_tokens=None, difference=None, discordance={},
    )  # fmt: skip
    [column] = [text for language, _, text in blocks if language == "html"]
    assert ">25.0</td>" in jinja2.Template(column).render(model={"row": row})


def completion(text: str) -> Completion:
    return Completion(
        problem_id="a", sample=0, prompt_hash="", completion=text, finish_reason="stop", num_prompt_tokens=1,
        num_tokens=3, seconds=0.0,
    )  # fmt: skip


@pytest.mark.usefixtures("open_tables")
def test_an_engine_answers(composed: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = section("CONTRIBUTING.md", "Add an engine")
    add_file(blocks, "src/micota/engines/parrot.py", micota.engines, tmp_path, monkeypatch)
    namespace(blocks, "src/micota/engines/__init__.py")
    engine = open_engine(composed("generate", "engine.name=parrot").engine, model_folder("bundled:ta"), None)
    ids = engine.tokenizer("3 + 4")["input_ids"]
    [output] = engine.generate([Request(id=("a", 0), prompt_ids=ids, seed=0)], SamplingConfig())
    assert output.text == "3 + 4"


def add_file(
    blocks: list[tuple[str, str, str]],
    title: str,
    package: types.ModuleType,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Make a block a module of a package."""
    text = next(text for _, name, text in blocks if name == title)
    path = folder / title
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(path.parent)])


def test_a_stage_makes_its_artifact(
    composed: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = section("CONTRIBUTING.md", "Add a stage")
    spec, stage, record = (f"src/micota/{name}.py" for name in ("graph/words", "stages/words", "stages/registry"))
    assert [title for _, title, _ in blocks] == [spec, stage, record]
    # What follows is what editing the files does: two new files and a record.
    monkeypatch.setattr(stages, "_stages", dict(stages._stages))
    add_file(blocks, spec, micota.graph, tmp_path, monkeypatch)
    add_file(blocks, stage, micota.stages, tmp_path, monkeypatch)
    namespace(blocks, record)
    rows = tmp_path / "rows.jsonl"
    row = {"problem_id": "1", "messages": [{"role": "user", "content": "?"}], "completion": "One two one"}
    rows.write_text(json.dumps(row | {"num_tokens": 3, "source": "mine"}) + "\n")
    config = composed(
        *("generate", "experiment=tiny", "tracker=none", "data=instruct", "data.name=mine", f"data.path={rows}"),
        *("select.num_examples=null", f"artifacts={tmp_path / 'artifacts'}"),
    )
    node = importlib.import_module("micota.graph.words").words(config)
    execute(config, "generate", [node], Console(quiet=True))
    store = Store(config.artifacts)
    assert (store.path(node) / "words.txt").read_text().split() == ["one", "two"]
    manifest = store.manifest(node)
    assert manifest is not None and stages.stage_of(node).headline(node, manifest.counts) == "2 words"


# Two whole commands, each in a process of its own: the first steps of a user must not break.
def test_a_model_rows_and_problems_of_the_user_take_two_commands(run_command: Command, tmp_path: Path) -> None:
    blocks = section("docs/tutorial.md", "7. Your model and your benchmark")
    [(_, title, program), (_, _, commands)] = blocks
    (tmp_path / title).write_text(program, encoding="utf-8")
    words = [shlex.split(line) for line in commands.splitlines()]
    assert [line[:2] for line in words] == [["python", title], ["micota", "train"], ["micota", "evaluate"]]
    subprocess.run([sys.executable, title], cwd=tmp_path, check=True)
    for _, command, *arguments in words[1:]:
        finished = run_command(command, *arguments, HF_HUB_OFFLINE="1")
        assert finished.returncode == 0, finished.stderr
    [scores] = (tmp_path / "artifacts" / "scores").glob("my-model+chat@exam-*/scores.jsonl")
    assert len(scores.read_text().splitlines()) == 10


@pytest.mark.slow  # seven commands, each in a process of its own
def test_the_tutorial_ends_in_a_comparison(run_command: Command, tmp_path: Path) -> None:
    blocks = tutorial()
    for _, title, text in blocks:
        if title:
            path = tmp_path / title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    shown = [text for language, _, text in blocks if language == "text"]
    printed = ""
    for program, *arguments in lines(blocks):
        if program == "python":
            subprocess.run([sys.executable, *arguments], cwd=tmp_path, check=True)
        elif program == "micota":
            finished = run_command(arguments[0], *arguments[1:])
            assert finished.returncode == 0, finished.stderr
            printed += finished.stdout
    for line in "\n".join(shown).splitlines():
        if "problem tiny" not in line and not line.startswith((" ─", "─")):
            assert " ".join(line.split()) in " ".join(printed.split()), line
