"""Kinds of AdamW: 8-bit and paged moments, against torch's, on a mesh of one, and after a resume."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from short_training import SendAt
from torch import distributed
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import LlamaConfig
from transformers.models.auto import AutoModelForCausalLM

from micota.config import SftConfig, TrainerConfig
from micota.config.optimizers import OPTIMIZERS
from micota.errors import ConfigError
from micota.sft import optimizers
from micota.sft.callbacks import StopOnSignal, StoppedError
from micota.sft.checkpoints import Checkpoints
from micota.sft.data import SftDataModule
from micota.sft.losses import Objective
from micota.sft.module import SftModule
from micota.sft.packing import Tokens

SFT = SftConfig(learning_rate=1e-2, batch_size=4, epochs=2, beta1=0.8, beta2=0.98, weight_decay=0.1)
CPU = TrainerConfig(name="cpu", accelerator="cpu", precision="32-true", pack_length=40)
QUANTISED = ("adamw_8bit", "paged_adamw_8bit")
pytestmark = pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")


def network() -> Any:
    """Its matrices have more than 4096 weights, below which bitsandbytes keeps float32 moments."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 96), torch.nn.Tanh(), torch.nn.Linear(96, 64))


def trained(model: Any, kind: str) -> torch.optim.Optimizer:
    """Five steps of least squares on random numbers."""
    optimizer = optimizers.adamw([*model.parameters()], replace(SFT, optimizer=kind))
    generator = torch.Generator().manual_seed(1)
    inputs, targets = torch.randn(32, 64, generator=generator), torch.randn(32, 64, generator=generator)
    for _ in range(5):
        optimizer.zero_grad()
        (model(inputs) - targets).square().mean().backward()
        optimizer.step()
    return optimizer


def moved(model: Any) -> torch.Tensor:
    pairs = zip(model.parameters(), network().parameters(), strict=True)
    return torch.cat([(after - before).detach().flatten() for after, before in pairs])


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_each_kind_takes_the_steps_of_adamw(kind: str) -> None:
    expected, model = network(), network()
    trained(expected, "adamw")
    optimizer = trained(model, kind)
    difference = (moved(model) - moved(expected)).norm() / moved(expected).norm()
    assert difference < (0.05 if kind in QUANTISED else 1e-5)
    types = {value.dtype for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)}
    assert (torch.uint8 in types) == (kind in QUANTISED)


@pytest.mark.parametrize("kind", QUANTISED)
def test_a_mesh_of_one_has_the_same_weights_and_keeps_its_moments(kind: str, tmp_path: Path) -> None:
    alone, sharded = network(), network()
    trained(alone, kind)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    try:
        fully_shard(sharded, mesh=init_device_mesh("cpu", (1,)))
        optimizer = trained(sharded, kind)
        for value, expected in zip(sharded.parameters(), alone.parameters(), strict=True):
            assert torch.equal(value.full_tensor(), expected)
        state = get_optimizer_state_dict(sharded, optimizer)
        again = optimizers.adamw([*sharded.parameters()], replace(SFT, optimizer=kind))
        get_optimizer_state_dict(sharded, again)  # makes moments of zeros, as a resume does
        set_optimizer_state_dict(sharded, again, state)
        for weight, before in optimizer.state.items():
            after = again.state[weight]
            assert {name: str(v) for name, v in after.items()} == {name: str(v) for name, v in before.items()}
    finally:
        distributed.destroy_process_group()


def fit(folder: Path, kind: str, *more: Callback) -> Any:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2}
    model: Any = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=32, **sizes))
    sft = replace(SFT, optimizer=kind)
    data = SftDataModule([Tokens(ids=[2 + i, 3, 4, 1], num_prompt=2) for i in range(12)], sft, CPU, seed=0)
    module = SftModule(Objective(model), sft, CPU, len(data.steps))
    signals, checkpoints = StopOnSignal(), Checkpoints(folder, 1000, "key", sharded=False)
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, callbacks=[*more, signals, checkpoints],
    )  # fmt: skip
    with signals.restoring_handlers():
        trainer.fit(module, data, ckpt_path=checkpoints.latest())
    return model


@pytest.mark.parametrize("kind", [name for name in OPTIMIZERS if name != "adamw"])
def test_a_resumed_run_ends_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", kind)
    with pytest.raises(StoppedError, match="after step 3"):
        fit(tmp_path / "stopped", kind, SendAt(signal.SIGTERM, 2))
    resumed = fit(tmp_path / "stopped", kind)
    for value, expected in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize(("kind", "trainer", "complaint"), [
    ("paged_adamw", {}, "sft.optimizer=paged_adamw with trainer.accelerator=cpu, .*; accepted: sft.optimizer=adamw"),
    ("paged_adamw_8bit", {"accelerator": "gpu", "cpu_offload": True}, "accepted: sft.optimizer=adamw_8bit"),
])  # fmt: skip
def test_what_cannot_run_is_refused(kind: str, trainer: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        optimizers.check(replace(SFT, optimizer=kind), replace(CPU, **trainer))


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(optimizers, "find_spec", lambda name: None if name == "bitsandbytes" else found(name))
    optimizers.check(SFT, CPU)
    with pytest.raises(ConfigError, match=r"needs the package bitsandbytes.*pip install 'micota\[bitsandbytes\]'"):
        optimizers.check(replace(SFT, optimizer="adamw_8bit"), CPU)
