"""A base in 4 bits under adapters: what is computed, trained, counted and exported."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.auto import AutoModelForCausalLM

from micota.config import LoraConfig, SftConfig, ShapeConfig, TrainerConfig
from micota.errors import ConfigError
from micota.sft import lora, quantizing
from micota.sft.loading import rows_of
from micota.sft.memory import memory_bytes
from micota.sft.shape import Shape
from micota.sft.skeletons import skeleton

IDS = torch.arange(2, 20)[None]
CPU = TrainerConfig(name="cpu", accelerator="cpu", precision="32-true", quantize="nf4")
SETTINGS = LlamaConfig(
    vocab_size=32, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
    attention_bias=True, tie_word_embeddings=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("model"))
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(SETTINGS)
    for name, weight in model.named_parameters():  # biases that are not 0
        weight.data += 0.1 * torch.randn_like(weight) * name.endswith("bias")
    model.save_pretrained(folder)
    return folder


def quantised(folder: str) -> tuple[Any, Any]:
    """The model of a folder in 4 bits, and what reads its files."""
    model = skeleton(folder, None, SETTINGS, torch.float32, "sdpa")
    read = rows_of(folder, None, [name for name, _ in model.named_parameters()], torch.float32)
    quantizing.fill_quantised(model, read, CPU, torch.device("cpu"))
    return model, read


def rounded(folder: str) -> Any:
    """The same model with plain weights that have the rounded values."""
    model, values = AutoModelForCausalLM.from_pretrained(folder), quantised(folder)[0]
    for name, weight in values.named_parameters():
        model.get_parameter(name).data.copy_(quantizing.values_of(weight))
    return model


def shift(adapted: Any) -> None:
    """Move adapters away from 0, as training does."""
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.data += 0.05


@pytest.mark.parametrize("dora", [False, True])
def test_a_product_is_that_of_the_rounded_weights_in_both_directions(saved: str, dora: bool) -> None:
    settings, results = LoraConfig(r=4, alpha=8, dora=dora), []
    for model in (quantised(saved)[0], rounded(saved)):
        adapted = lora.adapt(model, settings, seed=1)
        shift(adapted)
        loss = adapted(IDS, labels=IDS).loss
        loss.backward()
        grads = {name: w.grad for name, w in adapted.named_parameters() if w.grad is not None}
        results.append((loss.detach(), grads))
    (loss, grads), (expected, others) = results
    torch.testing.assert_close(loss, expected)
    assert (
        grads.keys() == others.keys()
        and all(lora.is_adapter(name) for name in grads)
        and len(grads) == (42 if dora else 28)
    )
    for name, grad in grads.items():
        torch.testing.assert_close(grad, others[name], rtol=1e-4, atol=1e-6)


def test_the_linear_layers_of_the_base_are_in_4_bits_and_nothing_else(saved: str) -> None:
    model, plain = quantised(saved)[0], AutoModelForCausalLM.from_pretrained(saved)
    for name, weight in model.named_parameters():
        expected = plain.get_parameter(name)
        is_linear = name.rsplit(".", 2)[1].endswith("_proj") and name.endswith("weight")
        assert quantizing.is_quantised(weight) == is_linear and quantizing.shape_of(weight) == expected.shape
        if is_linear:
            assert weight.numel() == expected.numel() / 2 and weight.dtype == torch.uint8
            difference = (quantizing.values_of(weight) - expected).norm() / expected.norm()
            assert 0.05 < difference < 0.12, "QLoRA's rounding, and no other weights"
        else:
            assert torch.equal(weight, expected)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_gradients_survive_an_evaluation(saved: str) -> None:
    """bitsandbytes packs weights in another order in evaluation, and then returns results without gradients."""
    adapted = lora.adapt(quantised(saved)[0], LoraConfig(r=4, alpha=8), seed=1)
    with torch.no_grad():
        before = adapted.eval()(IDS).logits
    loss = adapted.train()(IDS, labels=IDS).loss
    loss.backward()
    grad = adapted.base_model.model.model.layers[0].self_attn.q_proj.lora_B["default"].weight.grad
    assert grad is not None and grad.abs().max() > 0
    torch.testing.assert_close(adapted(IDS).logits, before)


@pytest.mark.parametrize("dora", [False, True])
def test_the_export_adds_adapters_to_the_weights_of_the_files(saved: str, dora: bool) -> None:
    model, read = quantised(saved)
    adapted = lora.adapt(model, LoraConfig(r=4, alpha=8, targets=["q_proj", "down_proj"], dora=dora), seed=1)
    plain = lora.adapt(
        AutoModelForCausalLM.from_pretrained(saved),
        LoraConfig(r=4, alpha=8, targets=["q_proj", "down_proj"], dora=dora), seed=1,
    )  # fmt: skip
    untouched = {weight.name: weight.read() for weight in lora.merged_weights(adapted, lambda v: v, base=read)}
    for other in (adapted, plain):
        shift(other)
    merged = {weight.name: weight for weight in lora.merged_weights(adapted, lambda v: v, base=read)}
    expected = {weight.name: weight.read() for weight in lora.merged_weights(plain, lambda v: v)}
    source = AutoModelForCausalLM.from_pretrained(saved).state_dict()
    assert merged.keys() == expected.keys()
    for name, weight in merged.items():
        assert weight.form.shape == tuple(source[name].shape) and weight.form.dtype == torch.float32
        if not dora:
            torch.testing.assert_close(weight.read(), expected[name])
            assert torch.equal(untouched[name], source[name])
        has_adapter = name.endswith(("q_proj.weight", "down_proj.weight"))
        assert torch.equal(weight.read(), source[name]) != has_adapter


def test_the_memory_of_a_base_in_4_bits(saved: str) -> None:
    sizes = ShapeConfig(layers=28, hidden=3584, intermediate=18944, heads=28, kv_heads=4, vocab=152064)
    sft = SftConfig(learning_rate=1e-4, batch_size=8, epochs=1, lora=LoraConfig(r=16, alpha=32))
    shape = Shape.to_train(sizes, sft)
    gpu = TrainerConfig(name="gpu", accelerator="gpu", precision="bf16-true", activation_checkpointing="full")
    whole, small = (memory_bytes(shape, replace(gpu, quantize=kind), 16384) for kind in ("none", "nf4"))
    assert shape.linear == pytest.approx(6.525e9, rel=1e-3)
    assert whole["weights"] - small["weights"] == pytest.approx((2 - 0.5159) * shape.linear, rel=1e-4)
    assert sum(small.values()) < 16 * 2**30 < sum(whole.values()) - 4 * 2**30, "7B on a GPU of 16 GiB"
    model = quantised(saved)[0]
    held = sum(
        weight.nbytes + (weight.quant_state.absmax.nbytes + weight.quant_state.state2.absmax.nbytes
                         if quantizing.is_quantised(weight) else 0)
        for weight in model.parameters()
    )  # fmt: skip
    counted = memory_bytes(Shape.of(AutoModelForCausalLM.from_config(SETTINGS)), CPU, 64)
    assert counted["weights"] == pytest.approx(held, rel=0.01)


def test_what_cannot_be_trained_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    sft = SftConfig(learning_rate=1, batch_size=1, epochs=1)
    with pytest.raises(ConfigError, match=r"quantize=nf4 without adapters.*accepted: sft\.lora\.r above 0 with it"):
        quantizing.check(sft, CPU)
    quantizing.check(sft, replace(CPU, quantize="none"))
    quantizing.check(replace(sft, lora=LoraConfig(r=4)), CPU)
    monkeypatch.setattr(quantizing, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package bitsandbytes.*pip install 'micota\[bitsandbytes\]'"):
        quantizing.check(replace(sft, lora=LoraConfig(r=4)), CPU)
    gpu = replace(CPU, accelerator="gpu", precision="bf16-true")
    assert not [*gpu.conflicts()] and not gpu.is_sharded and replace(gpu, quantize="none").is_sharded
    for other, what in ((replace(gpu, devices=4), "4 devices"), (replace(gpu, cpu_offload=True), "cpu_offload=True")):
        [line] = other.conflicts()
        assert line.startswith(f"quantize=nf4 with {what}: FSDP2 cannot hold weights of 4 bits; accepted: devices=1")
