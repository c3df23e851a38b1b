from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, Qwen3NextConfig
from transformers.models.auto import AutoModelForCausalLM
from transformers.models.llama import modeling_llama

from micota.config import TrainerConfig
from micota.errors import ConfigError
from micota.sft import fused, liger

LLAMA = LlamaConfig(
    vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, pad_token_id=0
)
NAMES = ("apply_rotary_pos_emb", "LlamaRMSNorm", "LlamaMLP")


class Liger:
    """What Liger's function for an architecture does, with its names."""

    def __init__(self) -> None:
        self.given: dict[str, bool] = {}
        self.rotated: list[tuple[torch.Tensor, torch.Tensor]] = []

    def rotate(self, query: torch.Tensor, key: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self.rotated.append((query, key))
        return query, key

    def __call__(
        self, rope: bool = True, rms_norm: bool = True, swiglu: bool = True, cross_entropy: bool = False,
        fused_linear_cross_entropy: bool = True, model: Any = None,
    ) -> None:  # fmt: skip
        self.given = {
            "rope": rope, "rms_norm": rms_norm, "swiglu": swiglu, "cross_entropy": cross_entropy,
            "fused_linear_cross_entropy": fused_linear_cross_entropy,
        }  # fmt: skip
        modeling_llama.apply_rotary_pos_emb = self.rotate
        modeling_llama.LlamaRMSNorm = modeling_llama.LlamaMLP = None
        modeling_llama.LlamaForCausalLM.forward = None
        model.model.norm.forward = lambda states: states


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Liger:
    for name in NAMES:
        monkeypatch.setattr(modeling_llama, name, getattr(modeling_llama, name))  # as it is after the test
    monkeypatch.setattr(modeling_llama.LlamaForCausalLM, "forward", modeling_llama.LlamaForCausalLM.forward)
    stand_in = Liger()
    monkeypatch.setattr(liger, "_functions", lambda: {"llama": stand_in})
    return stand_in


def test_one_model_is_changed_and_no_other(kernels: Liger) -> None:
    before = [getattr(modeling_llama, name) for name in NAMES]
    method = modeling_llama.LlamaForCausalLM.forward
    model: Any = AutoModelForCausalLM.from_config(LLAMA)
    liger.use_liger(model)
    assert kernels.given == {
        "rope": True, "rms_norm": True, "swiglu": True, "cross_entropy": False, "fused_linear_cross_entropy": False,
    }  # fmt: skip
    assert "forward" in vars(model.model.norm)
    assert [getattr(modeling_llama, name) for name in NAMES[1:]] == before[1:]
    assert modeling_llama.LlamaForCausalLM.forward is method
    ids = torch.arange(2, 12)[None]
    model(input_ids=ids)  # on a CPU the rotation is that of transformers
    assert kernels.rotated == []


def test_the_rotation_on_a_gpu_gets_copies(kernels: Liger, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes into its inputs, which selective activation checkpointing keeps for the backward pass."""
    for _ in range(2):  # a second model of the process changes nothing
        liger.use_liger(AutoModelForCausalLM.from_config(LLAMA))
    monkeypatch.setattr(liger, "_runs_on", lambda tensor: True)
    query, key = torch.randn(1, 2, 3, 16), torch.randn(1, 2, 3, 16)
    modeling_llama.apply_rotary_pos_emb(query, key, torch.zeros(1), torch.zeros(1))
    [(first, second)] = kernels.rotated
    assert torch.equal(first, query) and torch.equal(second, key)
    assert first.data_ptr() != query.data_ptr() and second.data_ptr() != key.data_ptr()


def test_a_gated_mlp_of_another_activation_stays(kernels: Liger) -> None:
    config = LlamaConfig(**{**LLAMA.to_dict(), "hidden_act": "gelu"})
    assert liger.parts_for(LLAMA) == ["rope", "rms_norm", "swiglu"]
    assert liger.parts_for(config) == ["rope", "rms_norm"]
    liger.use_liger(AutoModelForCausalLM.from_config(config))
    assert not kernels.given["swiglu"] and kernels.given["rms_norm"]


def test_what_cannot_run_is_refused_in_one_line(kernels: Liger, monkeypatch: pytest.MonkeyPatch) -> None:
    def trainer(accelerator: str) -> TrainerConfig:
        return TrainerConfig(name="x", accelerator=accelerator, precision="bf16-mixed", kernels="liger")

    with pytest.raises(ConfigError, match=r"trainer\.kernels=liger needs a GPU; accepted here: torch"):
        fused.check(LLAMA, trainer("cpu"))
    monkeypatch.setattr(liger, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package triton; pip install 'micota\[liger\]'; accepted"):
        fused.check(LLAMA, trainer("gpu"))
    monkeypatch.setattr(liger, "find_spec", lambda name: name)
    fused.check(LLAMA, trainer("gpu"))
    with pytest.raises(ConfigError, match=r"no kernels for models of type 'qwen3_next'; accepted: torch"):
        fused.check(Qwen3NextConfig(), trainer("gpu"))
    [conflict] = TrainerConfig(
        name="x", accelerator="gpu", precision="bf16-mixed", kernels="liger", compile=True
    ).conflicts()
    assert conflict == "kernels=liger with compile=True, which fuse the same operations; accepted: one of both"


@pytest.mark.slow  # it needs the extra liger and triton, which a CPU build of PyTorch does not bring
def test_layers_of_nine_architectures_in_tritons_interpreter() -> None:
    for package in liger.PACKAGES:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: pip install triton==3.7.1 'micota[liger]'")
    finished = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("liger_layers_interpreted.py"))],
        capture_output=True, text=True, check=False, env=os.environ | {"TRITON_INTERPRET": "1"},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    for kind, found in json.loads(finished.stdout.splitlines()[-1]).items():
        assert found["parts"] == ["rope", "rms_norm", "geglu" if kind == "gemma2" else "swiglu"]
        assert found["changed"] == ["apply_rotary_pos_emb"] and found["others"], kind
        for checkpointing in ("none", "selective", "full"):
            assert max(found[checkpointing]) < 1e-5, (kind, checkpointing)
