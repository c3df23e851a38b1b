"""The tool compare on a store with made-up scores of the toy benchmarks."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_store import score

from micota.artifacts.jsonl import json_line, write_jsonl
from micota.artifacts.store import Store
from micota.cli import compare as tool
from micota.config import TOOLS, SamplingConfig, SourceConfig, ThinkingConfig
from micota.graph.node import AnyNode, Node
from micota.graph.specs import CompletionsSpec, Prompt, ScoresSpec, SourceSpec
from micota.records import Completion

Make = Callable[..., AnyNode]


def scores_node(model: str, bench: str, seed: int) -> AnyNode:
    source: AnyNode = Node(name=model, spec=SourceSpec(path=model, revision=None, fingerprint=None))
    problems = SourceConfig(path=f"bundled:test_{bench}.jsonl", id_column="id")
    spec = CompletionsSpec(
        questions=problems, prompt=Prompt(template="{problem}", system=None), sampling=SamplingConfig(),
        thinking=ThinkingConfig(), engine="hf", dtype="float32", extra_body={}, seed=seed,
    )  # fmt: skip
    answers: AnyNode = Node(name=f"{model}@{bench}", spec=spec, inputs={"model": source}, benchmark=bench)
    graded = ScoresSpec(problems=problems, grader="typed", judge=None)
    return Node(name=answers.name, spec=graded, inputs={"completions": answers}, benchmark=bench)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make scores of a model that is right on a share of the problems: ``make("student+micota", "easy", 0.8)``."""
    store = Store(tmp_path / "artifacts")
    monkeypatch.setenv("MICOTA_ARTIFACTS", str(store.root))
    monkeypatch.setenv("COLUMNS", "160")

    def made(model: str, bench: str, share: float, seed: int = 0, ids: range = range(40)) -> AnyNode:
        node = scores_node(model, bench, seed)
        rng = random.Random(f"{model} {bench} {seed}")
        rows = [score(f"tiny/test_{bench}/{index}", 0, rng.random() < share) for index in ids]
        texts = [
            Completion(
                problem_id=row.problem_id, sample=0, prompt_hash="", completion=f"{model} <b> \ud800\x07 says 1",
                finish_reason="stop", num_prompt_tokens=1, num_tokens=3, seconds=0.1,
            )
            for row in rows
        ]  # fmt: skip
        for target, name, content in ((node.inputs["completions"], "completions", texts), (node, "scores", rows)):
            with store.build(target, seed) as build:
                assert build is not None
                write_jsonl(build.path / f"{name}.jsonl", content)
        return node

    return made


def output(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert tool.run(words) == 0
    return capsys.readouterr().out


def error(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert tool.run(words) == 2
    return capsys.readouterr().err


def test_one_problem_detects_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, right in (("a", True), ("b", False)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": "p", "correct": right}) + "\n")
    text = output(capsys, str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"))
    assert "not distinguishable" in text and "detected" not in text


def test_recipes_are_compared_on_all_their_benchmarks(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    for bench, shares in (("easy", (0.9, 0.3)), ("hard", (0.8, 0.2))):
        make("student+micota", bench, shares[0])
        make("student+strong", bench, shares[1])
    make("student+strong", "medium", 0.5)
    text = output(capsys, "micota", "strong")
    assert "micota - strong: accuracy" in text and "medium" not in text
    assert "over 2 single benchmarks" in text and "micota is better than strong: +" in text
    [pair] = json.loads(output(capsys, "student+micota", "strong", "--json"))
    assert set(pair["benchmarks"]) == {"easy", "hard"} and pair["benchmarks"]["easy"]["problems"] == 40
    assert pair["average"]["label"] == "better" and pair["average"]["difference"]["low"] > 0
    mean = sum(one["difference"]["value"] for one in pair["benchmarks"].values()) / 2
    assert pair["average"]["difference"]["value"] == pytest.approx(mean)


def test_an_evaluation_is_named_by_key_folder_or_file(
    make: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    one, other = make("student+micota", "easy", 0.9), make("student+short", "easy", 0.6)
    folder = tmp_path / "artifacts" / one.folder
    file = tmp_path / "a=b,{c}.scores.jsonl"
    rows = [{"id": f"tiny/test_easy/{index}", "correct": index % 2 == 0} for index in range(30)]
    file.write_text("".join(map(json_line, rows)))
    numbers = [
        json.loads(output(capsys, word, other.key, "--json"))[0]["average"]["difference"]
        for word in (one.key, f"{one.name}-{one.key}", one.folder, one.name, str(folder), "micota")
    ]
    assert all(number == numbers[0] for number in numbers)
    [pair] = json.loads(output(capsys, str(file), "micota", "--json"))
    assert pair["benchmarks"]["easy"] | {"left_out": 10, "problems": 30} == pair["benchmarks"]["easy"]


def test_seeds_are_averaged_within_a_problem(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        make("student+micota", "easy", 0.7, seed)
    make("student+short", "easy", 0.6)
    [pair] = json.loads(output(capsys, "micota", "short", "--json"))
    assert pair["benchmarks"]["easy"]["problems"] == 40


def test_damaged_scores_are_named_and_those_of_another_version_left_out(
    make: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Otherwise the benchmarks or seeds that remain would pass for all of them."""
    make("student+short", "easy", 0.6)
    folders = [tmp_path / "artifacts" / make("student+micota", bench, 0.7).folder for bench in ("easy", "hard")]
    for hurt in (
        lambda path: (path / "scores.jsonl").write_text(""),
        lambda path: (path / "manifest.json").write_text("{"),
    ):
        hurt(folders[1])
        text = error(capsys, "micota", "short")
        assert str(folders[1]) in text and f"Make it again:  rm -r {folders[1]}" in text
    (folders[1] / "manifest.json").write_text('{"schema_version": 2}')
    assert "student+micota" in output(capsys, "student+micota", "short")


def test_several_are_corrected_together(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    for index, name in enumerate(("micota", "short", "strong")):
        make(f"student+{name}", "easy", 0.9 - 0.2 * index)
    every = json.loads(output(capsys, "micota", "short", "strong", "--json"))
    assert [(pair["first"], pair["second"]) for pair in every] == [
        ("micota", "short"), ("micota", "strong"), ("short", "strong"),
    ]  # fmt: skip
    against = json.loads(output(capsys, "micota", "short", "baseline=strong", "--json"))
    assert [(pair["first"], pair["second"]) for pair in against] == [("micota", "strong"), ("short", "strong")]
    [top] = json.loads(output(capsys, "strong", "short", "micota", "top=2", "--json"))
    assert {top["first"], top["second"]} == {"micota", "short"}
    alone = json.loads(output(capsys, "micota", "short", "--json"))[0]
    widths = [one["average"]["difference"]["high"] - one["average"]["difference"]["low"] for one in (alone, top)]
    assert widths[0] < widths[1]  # chosen among three: corrected for three comparisons
    for pair in (*every, *against):
        excludes = pair["average"]["difference"]["low"] > 0 or pair["average"]["difference"]["high"] < 0
        assert excludes == (pair["average"]["label"] != "not distinguishable")


def test_answers_that_differ_are_a_page_of_chats(
    make: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, share in (("micota", 0.9), ("strong", 0.3)):
        make(f"student+{name}", "easy", share)
    page = tmp_path / "chats.html"
    assert f"page: {page}" in output(capsys, "micota", "strong", f"page={page}")
    html = page.read_text(encoding="utf-8")
    assert "student+micota &lt;b&gt; \\ud800\\u0007 says 1" in html and "micota ✓ right" in html
    assert html.count('<details class="chat"') >= 10 and "mod 10?" in html and "src=" not in html
    assert "0 problems differ" in (
        output(capsys, "micota", f"page={page}") and page.read_text(encoding="utf-8")
    )  # one evaluation: where graders differ


def test_mistakes_are_one_line(make: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    make("student+micota", "easy", 0.9)
    make("student2+micota", "easy", 0.9)
    make("student+short", "hard", 0.9)
    assert "'micota' names evaluations of 2 models; accepted: one of student+micota, student2+micota" in error(
        capsys, "micota", "short"
    )
    assert "no such evaluation" in error(capsys, "nothing", "short")
    assert "no problem in common: student+micota has easy; short has hard" in error(capsys, "student+micota", "short")
    assert "1 evaluation is named" in error(capsys, "short")
    assert "one name twice" in error(capsys, "short", "short")
    assert "top=1; accepted: a whole number from 2" in error(capsys, "short", "student+micota", "top=1")
    assert "seed=1; accepted: A B" in error(capsys, "short", "micota", "seed=1")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": 1}\n')
    assert f"{rows}:1: no score; accepted" in error(capsys, str(rows), "short")
    assert "page: rows.jsonl is a file of scores" in (
        rows.write_text('{"id": "tiny/test_hard/1", "correct": true}\n') and error(capsys, str(rows), "short", "page=x")
    )


def test_help_has_the_examples(capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(capsys, "--help")
    assert all(f"  micota compare {example}\n" in shown for example in TOOLS["compare"].examples)
