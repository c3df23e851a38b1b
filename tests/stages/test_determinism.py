"""Repeated evaluations: which settings are repeated, what counts as different, and where it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from micota import graph
from micota.cli.doctor import doctor
from micota.config import EngineConfig, OtherModelConfig, complaints
from micota.engines.base import Output
from micota.runtime import inputs
from micota.stages.determinism import AGAIN, FIRST, left_out, variants

Composed = Callable[..., Any]
SETTINGS = ["experiment=tiny", "tracker=none", "data=instruct", "bench=[tiny_easy]", "bench.easy.limit=4",
            "evaluation.num_workers=1", "determinism=true"]  # fmt: skip


def test_what_is_repeated(composed: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed("doctor", *SETTINGS, "audit.num_problems=3")
    [node] = graph.determinism(config, {"vllm": "not here"}).values()
    assert node.spec.problems.limit == node.spec.answers.questions.limit == 3 and node.spec.engines == ["hf"]
    hf = EngineConfig(name="hf", batch_size=8)
    shown = [(run.label, run.engine.name, run.engine.rows, run.num_threads) for run in variants(node.spec, hf, 1)]
    assert shown == [
        (FIRST, "hf", 8, 1), (AGAIN, "hf", 8, 1), ("batch of 1", "hf", 1, 1), ("batch of 64", "hf", 64, 1),
        ("2 threads", "hf", 8, 2),
    ]  # fmt: skip
    assert [*left_out(node.spec, hf)] == ["engine=vllm", "batch-invariant"]
    both = next(iter(graph.determinism(config, {}).values())).spec
    assert [run.label for run in variants(both, hf, 1)][-1] == "engine=vllm"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    runs = list(variants(both, EngineConfig(name="vllm", batch_size=64), 1))
    modes = [(run.label, run.engine.batch_invariant, run.engine.rows, run.against) for run in runs[-3:]]
    assert modes == [
        ("batch-invariant", True, 64, FIRST), ("batch-invariant, batch of 1", True, 1, "batch-invariant"),
        ("batch-invariant, batch of 8", True, 8, "batch-invariant"),
    ]  # fmt: skip
    assert [*left_out(both, EngineConfig(name="vllm"))] == ["other threads"]


def test_only_determinism_has_any_model(composed: Composed) -> None:
    config = composed("doctor", *SETTINGS, "audit.num_problems=3")
    other = replace(config, model=OtherModelConfig(path="bundled:teacher", name="other"))
    for chosen in (replace(config, role="teacher"), other):
        [node] = graph.determinism(chosen, {}).values()
        assert node.inputs["model"].is_source and not list(complaints(chosen))
        [complaint] = complaints(replace(chosen, determinism=False))
        assert "which is not trained; accepted: " in complaint


class BatchedEngine:
    """An engine whose answers are right where its batch has more than one row, and otherwise so where the id of the
    problem is even."""

    context_tokens = 1000

    def __init__(self, tokenizer: Any, rows: int) -> None:
        self.tokenizer, self.rows = tokenizer, rows

    def generate(self, requests: list[Any], sampling: Any) -> Iterator[Output]:
        for number, request in enumerate(requests):
            text = "\\boxed{1}" if self.rows > 1 or number % 2 == 0 else "\\boxed{2}"
            yield Output(id=request.id, text=text, finish_reason="stop", num_tokens=3, seconds=0.1, token_ids=[])

    def close(self) -> None:
        pass


def test_differences_are_counted_and_shown(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"problem": f"Mia has {n} pens:+1 mod 10?", "answer": "1", "id": str(n)} for n in range(4)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tokenizer = inputs.load_tokenizer(inputs.model_folder("bundled:student"), None)
    monkeypatch.setattr(inputs, "open_engine", lambda config, *_: BatchedEngine(tokenizer, config.rows))
    monkeypatch.setattr("micota.cli.determinism.absent", lambda: {"vllm": "not here"})
    words = ["bench=[]", f"bench.path={tmp_path / 'p.jsonl'}", f"artifacts={tmp_path / 'artifacts'}", "json=true"]
    config = composed("doctor", *[word for word in SETTINGS if "easy" not in word], *words)
    doctor(config)
    [found] = json.loads(capsys.readouterr().out).values()
    counts = {row["label"]: (row["num_answers_differ"], row["num_scores_differ"], row["num_correct"]) for row in found}
    assert counts[AGAIN] == counts["batch of 8"] == (0, 0, 4) and counts["batch of 1"] == (2, 2, 2)
    assert {row["label"] for row in found if row["left_out"]} == {"engine=vllm", "batch-invariant"}
    doctor(replace(config, json=False))
    printed = capsys.readouterr().out
    assert "done already" in printed and "left out: not here" in printed
    assert any(line.split()[:3] == ["batch", "of", "1"] and "50.0" in line for line in printed.splitlines())


def test_an_audit_that_was_stopped_goes_on_after_the_runs_that_had_ended(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that is damaged, or was made with other settings, is answered again."""
    tokenizer = inputs.load_tokenizer(inputs.model_folder("bundled:student"), None)
    opened: list[int] = []

    def open_engine(config: EngineConfig, *_: Any) -> BatchedEngine:
        opened.append(config.rows)
        if len(opened) == 3:
            raise KeyboardInterrupt
        return BatchedEngine(tokenizer, config.rows)

    monkeypatch.setattr(inputs, "open_engine", open_engine)
    monkeypatch.setattr("micota.cli.determinism.absent", lambda: {"vllm": "not here"})
    words = [
        f"artifacts={tmp_path}",
        "audit.num_problems=4",
        "audit.num_threads=[1]",
        "num_threads=1",
        "engine.batch_size=4",
    ]
    config = composed("doctor", *SETTINGS, *words)
    with pytest.raises(KeyboardInterrupt):
        doctor(config)
    [build] = tmp_path.glob("determinism/*.partial")
    kept = sorted((build / "answers").glob("*.jsonl"))
    assert opened == [4, 4, 1] and len(kept) == 2
    kept[0].write_bytes(kept[0].read_bytes()[:-2] + b"\n")
    capsys.readouterr()
    doctor(replace(config, json=True))
    printed = capsys.readouterr()
    assert len(opened) == 3 + 4, "one of two is damaged; with batches of 1, 8 and 64 that is four runs"
    assert printed.err.count("answered before the audit was stopped") == 1
    [rows] = json.loads(printed.out).values()
    assert [row["num_answers_differ"] for row in rows if not row["left_out"]] == [0, 0, 2, 0, 0]
    [made] = tmp_path.glob("determinism/*")
    assert sorted(path.name for path in made.iterdir()) == ["log.txt", "manifest.json", "repetitions.jsonl"]
