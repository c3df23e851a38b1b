from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp._fully_shard import _fsdp_param_group
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig
from transformers.models.auto import AutoModelForCausalLM

from micota.config import TrainerConfig
from micota.sft.losses import Objective
from micota.sft.sharding import in_this_process, reduce_gradients, shard

GPU = TrainerConfig(name="gpu", accelerator="gpu", precision="bf16-mixed")
CPU = TrainerConfig(name="cpu", accelerator="cpu", precision="32-true")


def test_segments_of_memory_grow_while_a_gpu_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    with in_this_process(GPU):
        assert os.environ["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert "PYTORCH_ALLOC_CONF" not in os.environ  # what runs next may not support it
    with in_this_process(CPU):
        assert "PYTORCH_ALLOC_CONF" not in os.environ


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_the_allocator_that_a_user_set_up_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "max_split_size_mb:512")
    before = dict(os.environ)
    with in_this_process(GPU):
        assert dict(os.environ) == before
    assert dict(os.environ) == before


def test_no_process_group_is_left_of_a_run_that_fails() -> None:
    with pytest.raises(RuntimeError, match="out of memory"), in_this_process(GPU):
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
        raise RuntimeError("out of memory")
    assert not distributed.is_initialized()


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        distributed.destroy_process_group()


def gradients(mesh: DeviceMesh, precision: str, *, each: bool) -> list[torch.Tensor]:
    """The gradients of a step of three micro-batches, summed into shards after each or after the last."""
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
    )
    objective = Objective(model)
    shard(objective, mesh, TrainerConfig(name="gpu", accelerator="gpu", precision=precision))
    for number in range(3):
        ids = torch.randint(2, 32, (1, 16))
        batch = {"input_ids": ids, "position_ids": torch.arange(16)[None], "labels": ids}
        reduce_gradients(objective, each or number == 2)
        objective(batch, {}, 48.0).backward()
    found = []
    for weight in objective.parameters():
        assert isinstance(weight.grad, DTensor) and weight.grad.dtype == torch.float32
        found.append(weight.grad.to_local())
    return found


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_summed_over_ranks_once_a_step_and_stay_the_same(
    precision: str, mesh: DeviceMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums: list[int] = []
    sum_over_ranks = _fsdp_param_group.foreach_reduce

    def counting(weights: Any, *rest: Any) -> Any:
        sums.append(len(weights))
        return sum_over_ranks(weights, *rest)

    monkeypatch.setattr(_fsdp_param_group, "foreach_reduce", counting)
    after_each = gradients(mesh, precision, each=True)
    number = len(sums)
    sums.clear()
    after_the_last = gradients(mesh, precision, each=False)
    assert (number, len(sums)) == (9, 3), "two layers, and what is outside of them"
    assert all(torch.equal(one, other) for one, other in zip(after_each, after_the_last, strict=True))
