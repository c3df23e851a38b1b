"""Adapters against peft: their scale, the layers that have them, and the weights that are merged."""

from __future__ import annotations

import math
from typing import Any

import peft
import pytest
import torch
from transformers import LlamaConfig
from transformers.models.auto import AutoModelForCausalLM

from micota.config import LoraConfig
from micota.config.sft import SftConfig
from micota.errors import ConfigError
from micota.sft import lora

IDS = torch.arange(2, 20)[None]


def small() -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
    )


def with_adapters(**settings: Any) -> Any:
    """peft's model with adapters of ours, as they could be after training."""
    adapted = lora.adapt(small(), LoraConfig(r=4, alpha=8, **settings), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if lora.is_adapter(name):
                weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return adapted


@pytest.mark.parametrize("kind", [{}, {"rslora": True}, {"dora": True}, {"rslora": True, "dora": True}])
def test_merged_weights_give_the_answers_of_peft(kind: dict[str, bool]) -> None:
    adapted = with_adapters(**kind)
    merged = small()
    merged.load_state_dict({weight.name: weight.read() for weight in lora.merged_weights(adapted, lambda value: value)})
    expected = adapted.eval()(IDS).logits
    torch.testing.assert_close(merged(IDS).logits, expected, rtol=1e-4, atol=1e-5)
    assert (small()(IDS).logits - expected).abs().max() > 1e-2


def test_adapters_start_as_the_unchanged_model() -> None:
    for kind in ({}, {"dora": True}):
        adapted = lora.adapt(small(), LoraConfig(r=4, alpha=8, **kind), seed=1)
        torch.testing.assert_close(adapted(IDS).logits, small()(IDS).logits)


def test_rslora_scales_by_the_root_of_the_rank() -> None:
    layers = [with_adapters(rslora=rslora).base_model.model.model.layers[0].mlp.up_proj for rslora in (False, True)]
    assert [layer.scaling["default"] for layer in layers] == [8 / 4, 8 / math.sqrt(4)]


def trained(adapted: Any) -> set[str]:
    names = (name for name, weight in adapted.get_base_model().named_parameters() if weight.requires_grad)
    return {name.partition(".lora_")[0] for name in names}


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["q_proj"], {"model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"}),
        (["mlp.up_proj"], {"model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"}),
        ([r"model\.layers\.1\.mlp\.(up|down)_proj"], {"model.layers.1.mlp.up_proj", "model.layers.1.mlp.down_proj"}),
        ([r".*\.1\..*(q|k)_proj", "layers.0.mlp.gate_proj"],
         {"model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.k_proj", "model.layers.0.mlp.gate_proj"}),
    ],
)  # fmt: skip
def test_targets_are_names_ends_of_names_and_regular_expressions(targets: list[str], expected: set[str]) -> None:
    settings = LoraConfig(r=4, alpha=8, targets=targets)
    adapted = lora.adapt(small(), settings, seed=1)
    assert trained(adapted) == expected
    again = peft.get_peft_model(small(), adapted.peft_config["default"])
    assert trained(again) == expected, "adapter_config.json says the same"
    assert {name for name, module in small().named_modules() if isinstance(module, torch.nn.Linear)
            and name != "lm_head" and settings.covers(name)} == expected  # fmt: skip


def test_a_pattern_reaches_no_output_layer() -> None:
    assert not any(
        "lm_head" in name for name in trained(lora.adapt(small(), LoraConfig(r=4, alpha=8, targets=[".*"]), seed=1))
    )


def test_a_pattern_that_covers_nothing_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'model.layers.7.\*' is no linear layer; accepted: .*'q_proj'.* as 'model"):
        lora.adapt(small(), LoraConfig(r=4, targets=["q_proj", "model.layers.7.*"]), seed=1)


def test_frozen_weights_beside_adapters_are_refused() -> None:
    sft = SftConfig(learning_rate=1, batch_size=1, epochs=1, freeze=["a"], lora=LoraConfig(r=4))
    [line] = sft.conflicts()
    assert "freeze=['a'] with lora.r=4, which trains adapters alone; accepted: freeze=[]" in line
