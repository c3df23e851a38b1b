"""The GPUs of a machine, read without starting CUDA: processes that vLLM forks could not use it then."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from micota import graph, machine
from micota.artifacts.provenance import hardware
from micota.config import Config, EngineConfig
from micota.engines.auto import choice
from micota.runtime.inputs import check_device
from micota.runtime.placing import placed

SOURCE = Path(machine.__file__).parent
# Calls of torch.cuda that read the driver's list of GPUs or the state of this process.
HARMLESS = {"is_available", "device_count", "is_initialized"}
H100 = machine.Gpu(name="NVIDIA H100 80GB HBM3", memory_bytes=80 * 2**30)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The calls that start CUDA, on a machine with a GPU and a driver."""
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "_is_compiled", lambda: True)
    monkeypatch.setattr(torch.cuda, "_device_count_nvml", lambda: 1)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: calls.append("_lazy_init"))
    monkeypatch.setattr(
        torch._C, "_cuda_getDeviceCount", lambda: calls.append("_cuda_getDeviceCount") or 1, raising=False
    )
    for module in ("machine", "artifacts.provenance", "engines.auto", "runtime.placing"):
        monkeypatch.setattr(f"micota.{module}.gpus", lambda: (H100,))
    yield calls


def test_nothing_before_the_engine_starts_cuda(started: list[str], composed: Callable[..., Any]) -> None:
    config: Config = composed("generate", "experiment=tiny")
    node = graph.trained(config, "student")
    assert placed(config, node).trainer.devices == 1
    assert "no GPU" not in choice(EngineConfig(name="auto"))[1]
    check_device("cuda", "engine.device")
    check_device("gpu", "trainer")
    assert hardware()["gpus"] == [H100.name]
    assert torch.cuda.is_available() and started == []


def test_the_default_check_of_pytorch_would_start_it(started: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for the variable that ``import micota`` sets."""
    monkeypatch.delenv("PYTORCH_NVML_BASED_CUDA_CHECK")
    assert torch.cuda.is_available() and started == ["_cuda_getDeviceCount"]


def test_only_training_calls_what_starts_cuda() -> None:
    for path in SOURCE.rglob("*.py"):
        if "sft" in path.relative_to(SOURCE).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "torch.cuda":
                assert node.attr in HARMLESS, f"{path}:{node.lineno}: torch.cuda.{node.attr}"
