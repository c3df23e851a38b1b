"""Training in rounds on rows of the user: each round chooses anew, and a killed run goes on to the same bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from training import TRAINING, rows, weights

from micota import graph
from micota.artifacts.jsonl import read_jsonl, write_jsonl
from micota.artifacts.store import Store
from micota.data.datacard import CARD_PAGE
from micota.records import BPC, DATA, Example, ExampleScore
from micota.runtime import execute
from micota.runtime.plan import pending, tasks_of


def test_rounds_choose_anew_and_a_killed_run_ends_with_the_same_bits(
    composed: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = rows(8)
    parts = {"long": long, "short": [replace(row, completion=row.completion[-4:], source="short") for row in long]}
    overrides = [item for item in TRAINING if not item.startswith("data=")]
    overrides += ["data=mix_long", "student.sft.curriculum.order=steered", "student.sft.curriculum.rounds=2"]
    for label, examples in parts.items():
        write_jsonl(tmp_path / f"{label}.jsonl", examples)
        part = f"data.parts.{label}"
        overrides += [f"{part}.generator=none", f"{part}.path={tmp_path / label}.jsonl", f"{part}.name={label}"]
    config = composed("train", *overrides, "student.sft.max_steps=2")
    node = graph.trained(config, "student")

    def run(store: Store) -> None:
        for task in tasks_of(pending(store, [node])):
            execute.perform(config, store, task, Console(quiet=True))

    whole, killed = Store(tmp_path / "whole"), Store(tmp_path / "killed")
    run(whole)
    for chosen in (one.inputs["data"] for one in graph.rounds_of(node)):
        measured = {label: chosen.inputs[graph.likelihood_of(label)] for label in parts}
        ratios = {
            label: [one.rank_surprisal_ratio for one in read_jsonl(whole.path(each) / BPC, ExampleScore)]
            for label, each in measured.items()
        }
        least = ["long" if one <= other else "short" for one, other in zip(*ratios.values(), strict=True)]
        examples = read_jsonl(whole.path(chosen) / DATA, Example)
        assert [example.completion in {row.completion for row in parts["short"]} for example in examples] == [
            label == "short" for label in least
        ]
        assert "lowest rank-surprisal ratio" in (whole.path(chosen) / CARD_PAGE).read_text()
        assert whole.manifest(measured["long"]).metrics["flops_forward"] > 0  # type: ignore[union-attr]
    steps = Counter(whole.manifest(one).counts["steps"] for one in graph.rounds_of(node))  # type: ignore[union-attr]
    assert steps == {1: 2}

    run_stage, trained = execute.run_stage, []

    def dies_in_second_round(work: Any) -> None:
        if work.node.stage == "train":
            trained.append(work.node.name)
            if len(trained) == 2:
                raise KeyboardInterrupt
        run_stage(work)

    monkeypatch.setattr(execute, "run_stage", dies_in_second_round)
    with pytest.raises(KeyboardInterrupt):
        run(killed)
    run(killed)
    assert trained == [f"tiny_student+mix_long.{name}" for name in ("round1", "steered", "steered")]
    first, second = (weights(store.path(node)) for store in (whole, killed))
    assert all(first[name].equal(second[name]) for name in first)
