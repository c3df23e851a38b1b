"""engine=auto, on machines with and without a GPU and vLLM."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from micota import graph
from micota.artifacts.manifest import MANIFEST
from micota.artifacts.store import ENGINE, Store
from micota.config import EngineConfig
from micota.engines import auto
from micota.errors import StageError
from micota.machine import Gpu, parsed
from micota.runtime.placing import engine_note, placed

LISTING = "0, GPU-aa1, NVIDIA H100 80GB HBM3, 81559\n1, GPU-bb2, NVIDIA A100-SXM4-40GB, 40960\n"


def machine(monkeypatch: pytest.MonkeyPatch, *, gpu: bool, vllm: bool) -> None:
    monkeypatch.setattr(auto, "gpus", lambda: parsed(LISTING, None) if gpu else ())
    monkeypatch.setattr(auto, "_has_vllm", lambda: vllm)
    monkeypatch.setattr(auto.metadata, "version", lambda name: "0.32.0")


@pytest.mark.parametrize(("gpu", "vllm", "name"), [(True, True, "vllm"), (True, False, "hf"), (False, True, "hf")])
def test_it_is_vllm_where_both_are_there(monkeypatch: pytest.MonkeyPatch, gpu: bool, vllm: bool, name: str) -> None:
    machine(monkeypatch, gpu=gpu, vllm=vllm)
    config = EngineConfig(name="auto", tensor_parallel=2, dtype="bfloat16")
    found = auto.resolved(config)
    assert (found.name, found.dtype, found.rows) == (name, "bfloat16", 256 if name == "vllm" else 64)
    assert found.tensor_parallel == (2 if name == "vllm" else None) and not list(found.conflicts())
    assert auto.resolved(EngineConfig(name="auto", device="cpu")).name == "hf"


def test_its_artifact_is_the_same_on_every_machine_and_another_than_that_of_a_named_engine(
    composed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(*overrides: str) -> str:
        return graph.data(config := composed("generate", "data=strong", *overrides), config.data).key

    machine(monkeypatch, gpu=False, vllm=False)
    here = key()
    machine(monkeypatch, gpu=True, vllm=True)
    assert key() == here and len({here, key("engine=hf"), key("engine=vllm")}) == 3


def test_a_build_ends_with_the_engine_that_began_it(
    composed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = composed("generate", "data=strong", "problems=tiny", "teacher=tiny", f"artifacts={tmp_path}")
    node = graph.data(config, config.data).inputs["completions"]
    store = Store(tmp_path)
    machine(monkeypatch, gpu=False, vllm=False)
    assert engine_note(config, node) == "engine=auto is hf on this machine: no GPU here"
    with pytest.raises(KeyboardInterrupt), store.build(node, 0) as build:
        assert build is not None and placed(config, node, build).engine.name == "hf"
        raise KeyboardInterrupt
    machine(monkeypatch, gpu=True, vllm=True)
    assert placed(config, node).engine.name == "vllm"
    with store.build(node, 0) as build:
        assert build is not None and placed(config, node, build).engine.name == "hf"
    assert json.loads((store.path(node) / MANIFEST).read_text())["engine"] == "hf"
    assert not (store.path(node) / ENGINE).exists()


def test_an_engine_that_is_not_to_be_had_any_more_is_named(
    composed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = composed("generate", "data=strong", "problems=tiny", "teacher=tiny", f"artifacts={tmp_path}")
    node = graph.data(config, config.data).inputs["completions"]
    machine(monkeypatch, gpu=True, vllm=True)
    with pytest.raises(KeyboardInterrupt), Store(tmp_path).build(node, 0) as build:
        assert build is not None
        placed(config, node, build)
        raise KeyboardInterrupt
    machine(monkeypatch, gpu=False, vllm=True)
    with pytest.raises(StageError, match=r"was begun by vLLM, and engine=auto is hf here \(no GPU here\)"):  # noqa: SIM117
        with Store(tmp_path).build(node, 0) as build:
            placed(config, node, build)


def test_hidden_gpus_do_not_count() -> None:
    both = parsed(LISTING, None)
    assert both[0] == Gpu(name="NVIDIA H100 80GB HBM3", memory_bytes=81559 * 2**20) and len(both) == 2
    assert parsed(LISTING, "1") == parsed(LISTING, "GPU-bb2") == both[1:]
    assert parsed(LISTING, "") == parsed("", None) == ()
