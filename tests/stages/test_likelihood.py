"""Bits per character of a user's rows, killed and resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interrupted import dies_at_batch
from rich.console import Console

from micota import graph
from micota.artifacts.jsonl import read_jsonl, write_jsonl
from micota.artifacts.manifest import read_manifest
from micota.artifacts.store import Store
from micota.errors import SourceError
from micota.graph.node import AnyNode
from micota.records import BPC, Example, ExampleScore
from micota.runtime.execute import perform
from micota.runtime.plan import tasks_of
from micota.stages import likelihood as stage

Composed = Callable[..., Any]
SETTINGS = [
    "experiment=tiny",
    "tracker=none",
    "trainer.pack_length=64",
    "trainer.micro_batch_rows=2",
    "select.num_examples=null",
]


def examples(texts: list[str]) -> list[Example]:
    return [
        Example(problem_id=f"p{number % 4}", messages=[{"role": "user", "content": "Mia has 3 pens:+4 mod 10?"}],
                completion=text, num_tokens=1, source="mine")
        for number, text in enumerate(texts)
    ]  # fmt: skip


TEXTS = [f"{number}+4={number + 4}.\n" * (1 + 5 * (number % 3)) + "\\boxed{7}" for number in range(9)]


def recipe(composed: Composed, folder: Path, texts: list[str]) -> tuple[Any, AnyNode]:
    path = folder / "mine.jsonl"
    write_jsonl(path, examples(texts))
    config = composed("evaluate", *SETTINGS, "data=strong", "data.generator=none", f"data.path={path}")
    node = graph.bpc(config)
    assert node is not None
    return config, node


def run(config: Any, node: AnyNode, artifacts: Path) -> Path:
    store = Store(artifacts)
    for task in tasks_of(graph.unique([node])):
        perform(config, store, task, Console(quiet=True))
    return store.path(node)


def test_rows_are_those_of_the_data_in_its_order(composed: Composed, tmp_path: Path) -> None:
    folder = run(*recipe(composed, tmp_path, TEXTS), tmp_path / "artifacts")
    rows = read_jsonl(folder / BPC, ExampleScore)
    assert [row.index for row in rows] == list(range(len(TEXTS)))
    assert [row.num_characters for row in rows] == [len(text) for text in TEXTS]
    manifest = read_manifest(folder)
    assert manifest.counts == {"resumed": 0, "examples": len(TEXTS), "num_parameters": 58608}
    total = sum(row.num_bytes * row.bits_per_byte for row in rows) / sum(row.num_bytes for row in rows)
    assert manifest.metrics["bits_per_byte"] == pytest.approx(total)
    assert manifest.metrics["p10"] < manifest.metrics["p50"] < manifest.metrics["p90"]


def test_a_killed_run_goes_on_and_gives_the_same_bits(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, node = recipe(composed, tmp_path, TEXTS)
    undisturbed = run(config, node, tmp_path / "undisturbed")
    batches = dies_at_batch(monkeypatch, stage, "completion_measures", 3)
    with pytest.raises(KeyboardInterrupt):
        run(config, node, tmp_path / "killed")
    [partial] = (tmp_path / "killed" / "bpc").glob("*.partial")
    assert len(read_jsonl(partial / BPC, ExampleScore)) == sum(batches[:2])
    with open(partial / BPC, "a", encoding="utf-8") as handle:
        handle.write('{"index": 3, "problem')  # torn by the kill
    resumed = run(config, node, tmp_path / "killed")
    assert (resumed / BPC).read_bytes() == (undisturbed / BPC).read_bytes()
    assert read_manifest(resumed).counts["resumed"] == sum(batches[:2])
    assert sum(batches) == len(TEXTS) + batches[2], "a batch that was done was done again"


def test_an_empty_completion_is_refused(composed: Composed, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"jsonl:2: completion=''"):
        run(*recipe(composed, tmp_path, ["so 7.", ""]), tmp_path / "artifacts")
