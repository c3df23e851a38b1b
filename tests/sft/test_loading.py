from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from packed_models import FAMILIES
from safetensors.torch import load_file, save_file
from torch import distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import AutoConfig
from transformers.models.auto import AutoModelForCausalLM

from micota.config import TrainerConfig
from micota.sft.loading import fill, rows_of
from micota.sft.sharding import shard
from micota.sft.skeletons import skeleton

TRAINER = TrainerConfig(name="cpu", accelerator="cpu", precision="32-true", devices=2)


@pytest.fixture
def saved(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Any, str]:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(FAMILIES[request.param])
    model.save_pretrained(tmp_path / "model")
    return model, str(tmp_path / "model")


@pytest.mark.parametrize("saved", sorted(FAMILIES), indirect=True)
def test_a_skeleton_has_all_but_the_weights(saved: tuple[Any, str]) -> None:
    model, folder = saved
    bones = skeleton(folder, None, AutoConfig.from_pretrained(folder), torch.float32, "eager")
    assert all(parameter.is_meta for parameter in bones.parameters())
    expected = dict(model.named_buffers())
    for name, buffer in bones.named_buffers():
        torch.testing.assert_close(buffer, expected[name])
    assert bones.generation_config.to_dict() == model.generation_config.to_dict()


@pytest.mark.parametrize("saved", ["qwen2"], indirect=True)
@pytest.mark.parametrize("other_names", [False, True])
def test_rows_are_those_of_the_files(saved: tuple[Any, str], other_names: bool) -> None:
    model, folder = saved
    names = [name for name, _ in model.named_parameters()]
    if other_names:  # as older checkpoints have it; transformers puts the prefix back
        path = Path(folder) / "model.safetensors"
        save_file(
            {name.removeprefix("model."): values for name, values in load_file(path).items()}, path, {"format": "pt"}
        )
    read = rows_of(folder, None, names, torch.float32)
    for name, values in model.named_parameters():
        assert torch.equal(read(name, 1, 3), values[1:3])


@pytest.mark.parametrize("saved", ["gemma2"], indirect=True)
def test_a_filled_model_is_the_saved_one(saved: tuple[Any, str], tmp_path: Path) -> None:
    """Tied weights too; over two processes it is tested with the stage."""
    model, folder = saved
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    try:
        bones = skeleton(folder, None, AutoConfig.from_pretrained(folder), torch.float32, "eager")
        objective = torch.nn.Module()
        objective.model = bones
        shard(objective, init_device_mesh("cpu", (1,)), TRAINER)
        fill(bones, rows_of(folder, None, [n for n, _ in bones.named_parameters()], torch.float32), torch.device("cpu"))
        assert bones.get_input_embeddings().weight is bones.get_output_embeddings().weight
        for name, values in model.named_parameters():
            assert torch.equal(bones.get_parameter(name).full_tensor(), values), name
    finally:
        distributed.destroy_process_group()


def test_weights_on_the_cpu_stay_there_with_a_mesh_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``trainer.cpu_offload`` needs it; without a GPU here, a copy to one would fail."""
    monkeypatch.setattr(DeviceMesh, "get_local_rank", lambda self, dim=None: 0)  # which needs a group of NCCL
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=1)
    try:
        mesh = DeviceMesh("cuda", [0], _init_backend=False)
        model = torch.nn.Linear(3, 4, device="meta")
        for name, weight in list(model.named_parameters()):
            sharded = DTensor.from_local(weight.detach(), mesh, [Shard(0)], run_check=False)
            model.register_parameter(name, torch.nn.Parameter(sharded))
        values = {"weight": torch.randn(4, 3), "bias": torch.randn(4)}
        fill(model, lambda name, start, stop: values[name][start:stop], torch.device("cpu"))
        for name, weight in model.named_parameters():
            assert isinstance(weight, DTensor) and weight.device.type == "cpu"
            assert torch.equal(weight.to_local(), values[name])
    finally:
        distributed.destroy_process_group()
