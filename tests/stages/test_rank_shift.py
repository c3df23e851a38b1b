"""Rank shifts of stored answers: killed and resumed, and shown by the command."""

from __future__ import annotations

import re
import subprocess
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
from micota.data.sources import load_questions
from micota.errors import ConfigError
from micota.graph.node import AnyNode
from micota.records import RANKS, TOKEN_SHIFTS, Completion, RankedResponse, TokenShift
from micota.runtime.execute import perform
from micota.runtime.plan import tasks_of
from micota.stages import rank_shift as stage

Composed = Callable[..., Any]
BATCHES = ["trainer.pack_length=80", "trainer.micro_batch_rows=2"]
SETTINGS = ["experiment=tiny", "tracker=none", "bench=[tiny_easy]", "bench.easy.limit=8", "data=strong", *BATCHES]


def answered(composed: Composed, artifacts: Path) -> tuple[Any, AnyNode]:
    """Config and node, with answers of the tuned student from a fixed list: half of them cut off, one of them empty."""
    config = composed("evaluate", *SETTINGS)
    [node] = graph.rank_shifts(config).values()
    store, completions = Store(artifacts), node.inputs["completions"]
    rows = [
        Completion(
            problem_id=question.id, sample=0, prompt_hash="", completion="Wait, 7*8=56 ok.\n" * number,
            finish_reason="length" if number % 2 == 0 else "stop", num_prompt_tokens=9, num_tokens=9, seconds=0.1,
        )
        for number, question in enumerate(load_questions(completions.spec.questions))
    ]  # fmt: skip
    with store.build(completions, 0) as build:
        assert build is not None
        write_jsonl(build.path / "completions.jsonl", rows[::-1])
    return config, node


def run(config: Any, node: AnyNode, artifacts: Path) -> Path:
    [task] = [task for task in tasks_of([node]) if task.nodes == [node]]
    perform(config, Store(artifacts), task, Console(quiet=True))
    return Store(artifacts).path(node)


def test_every_token_of_every_answer_has_its_rank(composed: Composed, tmp_path: Path) -> None:
    folder = run(*answered(composed, tmp_path), tmp_path)
    rows = read_jsonl(folder / RANKS, RankedResponse)
    assert [row.problem_id for row in rows] == sorted(row.problem_id for row in rows) and len(rows) == 8
    assert sorted(len(row.ranks) for row in rows)[:2] == [0, min(len(row.ranks) for row in rows if row.ranks)]
    shifts = {row.text: row for row in read_jsonl(folder / TOKEN_SHIFTS, TokenShift)}
    assert shifts["Wait"].count == sum(range(8)), "one a line"
    [eos] = [row for row in shifts.values() if row.count == 4]
    assert eos.text not in "Wait, 7*8=56 ok.\n", "answers that ended by themselves have an end, the others none"
    manifest = read_manifest(folder)
    assert manifest.counts["tokens"] == sum(row.count for row in shifts.values()) == sum(len(r.ranks) for r in rows)
    shares = [manifest.metrics[f"share_{kind}"] for kind in ("unshifted", "marginal", "shifted")]
    assert sum(shares) == pytest.approx(1) and min(shares) > 0


def test_a_killed_run_goes_on_and_gives_the_same_ranks(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run(*answered(composed, tmp_path / "undisturbed"), tmp_path / "undisturbed")
    config, node = answered(composed, tmp_path / "killed")
    calls = dies_at_batch(monkeypatch, stage, "token_ranks", 3)
    with pytest.raises(KeyboardInterrupt):
        run(config, node, tmp_path / "killed")
    resumed = run(config, node, tmp_path / "killed")
    for name in (RANKS, TOKEN_SHIFTS):
        assert (resumed / name).read_bytes() == (undisturbed / name).read_bytes()
    assert sum(calls) == 8 + calls[2], "a batch that was done was done again"


def test_the_command_shows_the_most_shifted_tokens(
    composed: Composed, run_command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    answered(composed, tmp_path / "artifacts")
    finished = run_command("evaluate", *SETTINGS, "rank_shift=true")
    assert finished.returncode == 0, finished.stderr
    assert "tokens that tiny_student would not have chosen" in finished.stdout
    assert re.search(r"'Wait' +28 ", finished.stdout)


def test_answers_must_be_there_and_greedy(
    composed: Composed, run_command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    finished = run_command("evaluate", *SETTINGS, "rank_shift=true")
    assert finished.returncode == 2 and "python evaluate.py data=strong" in finished.stderr
    with pytest.raises(ConfigError, match=r"evaluation\.sampling\.temperature=0\.6: rank shifts are of greedy"):
        graph.rank_shifts(composed("evaluate", *SETTINGS, "temperature=0.6"))
    assert graph.rank_shifts(composed("evaluate", *SETTINGS, "data=instruct")) == {}
