"""Training with ``trainer=gpu``, on a stand-in for one GPU and, with ``pytest -m gpu``, on a GPU."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from stand_in_gpu import Kernels, install
from torch import distributed
from training import Prepared, assert_same, fitted

from micota.config import Config, LoraConfig
from micota.sft.checkpoints import Checkpoints

Elsewhere = Callable[[Config, str], Config]


FEW = ["student.sft.epochs=1", "trainer.checkpoint_every=100"]


@pytest.fixture(params=["stand_in", pytest.param("cuda", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernels | None]:
    """The kernels of the stand-in, or None on a GPU, where the same run twice gives the same bits."""
    if request.param == "stand_in":
        yield install(monkeypatch)
        return
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield None
    torch.use_deterministic_algorithms(before)


def on_gpu(config: Config, **settings: object) -> Config:
    return replace(config, trainer=replace(config.trainer, accelerator="gpu", **settings))  # type: ignore[arg-type]


def test_one_gpu_in_float32_equals_a_cpu(prepared: Prepared, elsewhere: Elsewhere, gpu: Kernels | None) -> None:
    config = prepared(*FEW, "student.sft.validation_fraction=0.1")
    (alone, first), (sharded, second) = fitted(config), fitted(on_gpu(elsewhere(config, "gpu")))
    assert second.losses == pytest.approx(first.losses, abs=1e-4)
    assert_same(sharded, alone, tolerance=2e-4)
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (alone, sharded)]
    assert manifests[0]["counts"] == manifests[1]["counts"]
    assert manifests[1]["metrics"] == pytest.approx(manifests[0]["metrics"], abs=1e-4)
    assert not {"LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"} & os.environ.keys()  # the next command is no rank


@pytest.mark.parametrize("change", [{}, {"cpu_offload": True}, {"evaluate_every": 8}])
def test_one_gpu_trains_in_bfloat16(
    prepared: Prepared,
    gpu: Kernels | None,
    elsewhere: Elsewhere,
    change: dict[str, object],
) -> None:
    """The kernels refuse other types than bfloat16, and the weights that are written move by less than it resolves."""
    config = prepared(*FEW, "student.sft.export_dtype=float32", "student.sft.learning_rate=1e-4")
    (alone, first), (sharded, second) = (
        fitted(config),
        fitted(on_gpu(elsewhere(config, "gpu"), precision="bf16-mixed", **change)),
    )
    if gpu is not None:
        assert {name for name, _ in gpu.calls} == {"varlen"}
    assert second.losses == pytest.approx(first.losses, rel=2e-2)
    assert_same(sharded, alone, tolerance=2e-3)


def test_adapters_on_one_gpu(prepared: Prepared, gpu: Kernels | None) -> None:
    config = on_gpu(prepared(*FEW), precision="bf16-true")
    assert config.student.sft is not None
    config.student.sft = replace(config.student.sft, lora=LoraConfig(r=4, alpha=8), learning_rate=1e-2)
    folder, curve = fitted(config)
    assert curve.losses[-1] < curve.losses[0] and (folder / "adapter" / "adapter_model.safetensors").exists()


def test_it_goes_on_from_its_shards(
    prepared: Prepared,
    elsewhere: Elsewhere,
    gpu: Kernels | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = on_gpu(prepared("student.sft.epochs=1"), precision="bf16-mixed")
    undisturbed, _ = fitted(elsewhere(config, "undisturbed"))

    class PulledPlug(BaseException):
        """Ends the run as a lost machine does."""

    def save(checkpoints: Checkpoints, trainer: Any, step: int) -> None:
        save_as_ever(checkpoints, trainer, step)
        if step == 4:
            raise PulledPlug

    save_as_ever = Checkpoints.save
    with monkeypatch.context() as patch, pytest.raises(PulledPlug):
        patch.setattr(Checkpoints, "save", save)
        fitted(config)
    assert not distributed.is_initialized()
    model, curve = fitted(config)
    assert len(curve.losses) == curve.total - 4
    assert_same(model, undisturbed)
