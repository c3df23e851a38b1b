"""Numbers of what a GPU computes: kernels of attention, losses, and activation checkpointing.

Each test runs on the stand-in and, with ``pytest -m gpu``, on a GPU; ``make gpu`` prints the properties that it
records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from stand_in_gpu import install_kernels
from torch.nn import functional
from transformers import Gemma2Config, MistralConfig, Qwen2Config
from transformers.models.auto import AutoModelForCausalLM

from micota.sft import attention
from micota.sft.activation_checkpointing import ActivationCheckpointing
from micota.sft.losses import Objective, liger_nll, summed_nll, with_positions
from micota.sft.module import moved
from micota.sft.packing import Tokens, borders, collate

Record = Callable[[str, object], None]
SHAPE = {
    "vocab_size": 512, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 2048, "pad_token_id": 0,
}  # fmt: skip
FAMILIES: dict[str, Any] = {
    "qwen2": Qwen2Config(**SHAPE),
    "mistral": MistralConfig(**SHAPE, sliding_window=48),
    "gemma2": Gemma2Config(**SHAPE, attn_logit_softcapping=5.0, final_logit_softcapping=5.0, sliding_window=48),
}
KERNELS = ["flash_attn", "varlen", "sequences", "sdpa", "flex"]


@pytest.fixture(params=["stand_in", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of the device that computes."""
    if request.param == "stand_in":
        install_kernels(monkeypatch)
        yield "cpu"
        return
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield "cuda"
    torch.use_deterministic_algorithms(before)


def learn(config: Any, kernel: str, device: str, dtype: torch.dtype, capacity: int, kind: str = "none") -> Any:
    """Loss and gradients of one batch, as float64 on the CPU. All kernels get the same weights and tokens."""
    torch.manual_seed(0)
    name = attention.implementation(kernel)
    model: Any = AutoModelForCausalLM.from_config(config, attn_implementation=name, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():  # all kernels get weights that bfloat16 has
            weight.copy_(weight.bfloat16())
    model = model.to(device, dtype).train()
    lengths = (300, 7, 120, 64, 1, 201, 33) if device == "cuda" else (100, 7, 60, 2, 33)
    generator = torch.Generator().manual_seed(0)
    rows = [Tokens(ids=torch.randint(1, 512, (n + 1,), generator=generator).tolist(), num_prompt=1) for n in lengths]
    batch = with_positions(collate(rows, capacity))
    edges = borders(batch["position_ids"])
    edges |= {name: edges[name].to(device) for name in ("cu_seq_lens_q", "cu_seq_lens_k")}
    inputs = {name: moved(values, torch.device(device)) for name, values in batch.items()}
    loss = Objective(model, "chunked", ActivationCheckpointing(model, {kind: 4096}))(inputs, edges, sum(lengths))
    loss.backward()
    grads = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    return loss.detach().double().cpu(), grads.double().cpu()


def distance(value: torch.Tensor, expected: torch.Tensor) -> float:
    """|value - expected| / |expected|."""
    return float((value.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_kernels_equal_eager_attention_in_float32(
    family: str, kernel: str, device: str, record_property: Record
) -> None:
    """In bfloat16, packed, against a row for each sequence. Eager attention in bfloat16 is the measure of rounding."""
    config = FAMILIES[family]
    objection = attention._objection(kernel, "cuda", config, "bf16-mixed")
    if objection or (device == "cpu" and kernel == "flex"):
        pytest.skip(f"{kernel} {objection or 'has no backward on CPU'}")
    exact, exact_gradient = learn(config, "eager", device, torch.float32, capacity=1)
    rounded, rounded_gradient = learn(config, "eager", device, torch.bfloat16, capacity=1)
    loss, gradient = learn(config, kernel, device, torch.bfloat16, capacity=512)
    error, expected = distance(gradient, exact_gradient), distance(rounded_gradient, exact_gradient)
    record_property("error of gradients", f"{error:.1e} (eager in bfloat16: {expected:.1e})")
    assert error < 2 * expected < 0.2
    assert distance(loss, exact) < 2 * distance(rounded, exact) + 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["chunked", "liger"])
def test_losses_equal_float64(name: str, dtype: torch.dtype, device: str, record_property: Record) -> None:
    if name == "liger" and (device == "cpu" or find_spec("liger_kernel") is None):
        pytest.skip("needs a GPU and the package liger-kernel; test_losses.py runs it in Triton's interpreter")
    tokens, hidden, vocabulary = (1024, 1536, 151936) if device == "cuda" else (64, 32, 500)
    torch.manual_seed(0)
    # As large as those of real models, so that logits are between -4 and 4.
    states = torch.randn(tokens, hidden, device=device).to(dtype)
    weight = (torch.randn(vocabulary, hidden, device=device) / hidden**0.5).to(dtype)
    labels = torch.randint(0, vocabulary, (tokens,), device=device)

    def run(function: Callable[..., torch.Tensor], used: torch.dtype) -> list[torch.Tensor]:
        leaves = [leaf.detach().to(used, copy=True).requires_grad_() for leaf in (states, weight)]
        loss = function(*leaves, labels, float(tokens))
        loss.backward()
        return [loss.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    expected = run(plain, torch.float64)
    values = run(liger_nll if name == "liger" else summed_nll, dtype)
    errors = [distance(value, exact) for value, exact in zip(values, expected, strict=True)]
    record_property("error of loss", f"{errors[0]:.1e}")
    record_property("of gradients", f"{max(errors[1:]):.1e}")
    assert errors[0] < (1e-6 if dtype == torch.float32 else 1e-3)
    assert max(errors[1:]) < (1e-5 if dtype == torch.float32 else 1e-2)


def plain(states: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, divisor: float) -> torch.Tensor:
    return functional.cross_entropy(states @ weight.T, labels, reduction="sum") / divisor


def test_kinds_of_activation_checkpointing_are_equal(device: str, record_property: Record) -> None:
    kernel = attention.choose("auto", "cuda", FAMILIES["qwen2"])
    results = {
        kind: learn(FAMILIES["qwen2"], kernel, device, torch.bfloat16, 512, kind)
        for kind in ("none", "selective", "full")
    }
    again = learn(FAMILIES["qwen2"], kernel, device, torch.bfloat16, 512)
    loss, gradient = results["none"]
    noise = distance(again[1], gradient)
    errors = {kind: distance(results[kind][1], gradient) for kind in ("selective", "full")}
    record_property("kernel", kernel)
    record_property("error of gradients", f"{max(errors.values()):.1e} (the same run twice: {noise:.1e})")
    assert all(torch.equal(value, loss) for value, _ in results.values())
    assert max(errors.values()) <= 2 * noise
