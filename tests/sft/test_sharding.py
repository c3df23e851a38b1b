from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fork_server
import pytest
import sharded_steps
import torch
from torch import distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp._fully_shard import _fsdp_param_group
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig
from transformers.models.auto import AutoModelForCausalLM

from micota.config import TrainerConfig
from micota.sft import losses
from micota.sft.losses import Objective
from micota.sft.sharding import in_this_process, reduce_gradients, shard, whole

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
    assert (number, len(sums)) == (15, 5), "two layers, the embedding, the output head, and the last norm"
    assert all(torch.equal(one, other) for one, other in zip(after_each, after_the_last, strict=True))


def test_embedding_and_output_head_are_whole_only_while_they_are_used(
    mesh: DeviceMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = sharded_steps.untied()
    objective = Objective(model)
    shard(objective, mesh, TrainerConfig(name="gpu", accelerator="gpu", precision="32-true"))
    ends = {"embedding": model.get_input_embeddings(), "head": model.get_output_embeddings()}
    seen: dict[str, set[str]] = {}

    def look(moment: str) -> None:
        seen[moment] = {name for name, module in ends.items() if not isinstance(module.weight, DTensor)}

    ends["embedding"].register_forward_hook(lambda *_: look("embedding"), prepend=True)
    layer = model.model.layers[0]
    layer.register_forward_hook(lambda *_: look("layer"))
    layer.register_full_backward_hook(lambda *_: look("backward of the layer"))
    plain = losses.summed_nll

    def loss(*inputs: Any, **options: Any) -> torch.Tensor:
        look("loss")
        return plain(*inputs, **options)

    objective.function = loss
    [batch, _] = sharded_steps.batches(0, 0)
    objective(batch, {}, 16.0).backward()
    assert seen == {"embedding": {"embedding"}, "layer": set(), "loss": {"head"}, "backward of the layer": set()}
    assert all(isinstance(weight.grad, DTensor) for weight in objective.parameters())


@pytest.mark.parametrize("end", ["embedding", "head"])
def test_a_frozen_end_of_the_model_needs_no_gradient(end: str, mesh: DeviceMesh) -> None:
    models = [sharded_steps.untied() for _ in range(2)]
    objectives = [Objective(model) for model in models]
    for model in models:
        module = model.get_input_embeddings() if end == "embedding" else model.get_output_embeddings()
        module.weight.requires_grad_(False)
    shard(objectives[1], mesh, TrainerConfig(name="gpu", accelerator="gpu", precision="32-true"))
    for batch in sharded_steps.batches(0, 0):
        for objective in objectives:
            objective(batch, {}, 16.0).backward()
    for plain, sharded in zip(*(objective.parameters() for objective in objectives), strict=True):
        assert (plain.grad is None) == (sharded.grad is None) == (not plain.requires_grad)
        if plain.grad is not None:
            torch.testing.assert_close(whole(sharded.grad), plain.grad, rtol=1e-5, atol=1e-6)


def test_two_ranks_with_units_for_embedding_and_head_equal_one_process(tmp_path: Path) -> None:
    ranks, script = range(2), str(Path(sharded_steps.__file__))
    files = [str(tmp_path / "store"), str(tmp_path / "found.pt")]
    commands = [fork_server.Command(script, [str(rank), "2", *files], os.environ) for rank in ranks]
    for command in commands:
        with command:
            _, errors = command.communicate(60)
            assert command.returncode == 0, errors
    weights, norms = torch.load(files[1])
    divisor = 2.0 * sharded_steps.MICRO_BATCHES * sharded_steps.TOKENS
    expected, expected_norms = sharded_steps.trained(Objective(sharded_steps.untied()), [*ranks], divisor)
    assert norms == pytest.approx(expected_norms, rel=1e-5)
    assert weights.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(weights[name], values, rtol=0, atol=1e-6)
