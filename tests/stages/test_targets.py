"""Stored log-probabilities of a teacher: the loss is that of the teacher beside the student, without its memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fork_server
import pytest
import torch
from rich.console import Console
from training import Prepared, assert_same, fitted

from micota import graph
from micota.artifacts.store import Store
from micota.config import Config
from micota.data.sources import model_folder
from micota.errors import ConfigError
from micota.export import export
from micota.graph.node import AnyNode
from micota.graph.teachers import TARGETS
from micota.pretrained import load_model, load_tokenizer
from micota.runtime.execute import perform
from micota.runtime.plan import tasks_of
from micota.sft import targets as files
from micota.stages import targets as stage
from micota.stages import train

KD = ["objective=logit_kd", "objective.teacher=bundled:ta", "objective.top_k=4", "student.sft.max_steps=3"]
STORED = [*KD, "objective.stored=float32"]


def stored(config: Config) -> Path:
    """The stored log-probabilities of a run, which are made if they are not there."""
    node: AnyNode = graph.trained(config, "student").inputs[TARGETS]
    store = Store(config.artifacts)
    perform(config, store, tasks_of([node])[0], Console(quiet=True))
    return store.path(node)


def test_the_loss_is_that_of_the_teacher_beside_the_student(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FILE_BYTES", 4000)
    config = prepared(*STORED)
    folder = stored(config)
    counts = json.loads((folder / "manifest.json").read_text())["counts"]
    assert counts["examples"] == 40 and counts["top_k"] == 4
    assert len(list(folder.glob("rows-*"))) >= counts["tokens"] * 36 / 4000 > 2
    model, curve = fitted(config)
    beside, expected = fitted(prepared(*KD))
    assert curve.losses == pytest.approx(expected.losses, abs=1e-6) and curve.losses[0] > 0.1
    assert_same(model, beside, tolerance=1e-5)
    flops = json.loads((model / "manifest.json").read_text())["metrics"]
    assert "flops_teacher" not in flops


def test_a_killed_run_goes_on_and_ends_with_the_same_files(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FILE_BYTES", 4000)
    config = prepared(*STORED)
    whole, again = stored(config), elsewhere(config, "again")
    made: list[Path] = []

    def save(path: Path, key: str, tensors: Mapping[str, torch.Tensor]) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(path)
        files.save_rows(path, key, tensors)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stage, "save_rows", save)
        stored(again)
    resumed = stored(again)
    assert json.loads((resumed / "manifest.json").read_text())["counts"]["resumed"] == 2
    contents = [{file.name: file.read_bytes() for file in sorted(at.glob("*.safetensors"))} for at in (whole, resumed)]
    assert contents[0] == contents[1] and len(contents[0]) > 4


@pytest.mark.slow
def test_half_precision_changes_the_loss_by_less_than_a_thousandth(prepared: Prepared) -> None:
    whole, half = (prepared(*KD, f"objective.stored={dtype}") for dtype in ("float32", "float16"))
    sizes = [sum(file.stat().st_size for file in stored(config).glob("rows-*")) for config in (whole, half)]
    assert 0.6 < sizes[1] / sizes[0] < 0.8, "ids keep their size"
    losses = [fitted(config)[1].losses for config in (whole, half)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3) and losses[0] != losses[1]


def test_a_teacher_with_another_template_is_refused_before_anything_is_made(
    composed: Callable[..., Any], tmp_path: Path
) -> None:
    folder = model_folder("bundled:ta")
    tokenizer: Any = load_tokenizer(folder)
    tokenizer.chat_template = "{{ eos_token }}" + tokenizer.chat_template
    export(load_model(folder), tokenizer, tmp_path / "other")
    words = ["experiment=tiny", "data=strong", *STORED[:1], *STORED[2:], f"objective.teacher={tmp_path / 'other'}"]
    config = composed("train", *words)
    with pytest.raises(ConfigError, match=r"objective\.stored=float32: .* not those of the student; accepted: "):
        train.check_placement(config, graph.trained(config, "student"))


def test_other_tokens_of_the_data_are_refused(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    config = prepared(*STORED)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "sum_of_tokens", lambda tokens: "of another template")
        stored(config)
    with pytest.raises(ConfigError, match=r"objective\.stored=float32: .* not those of the student"):
        train.read_inputs(Store(config.artifacts), graph.trained(config, "student"))


@pytest.mark.slow
def test_two_processes_read_the_same_rows_as_one(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    fork_server.start_ranks(monkeypatch)
    config = prepared(*STORED)
    stored(config)
    two = elsewhere(prepared(*STORED, "trainer.devices=2"), "two")
    stored(two)
    assert fitted(two)[1].losses == pytest.approx(fitted(config)[1].losses, abs=1e-4)
