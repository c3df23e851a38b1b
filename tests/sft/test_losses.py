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
from packed_models import model_of, sequences
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import CohereConfig, GraniteConfig, LlamaConfig
from transformers.models.auto import AutoModelForCausalLM

from micota.errors import ConfigError
from micota.sft import chunked
from micota.sft.losses import Objective, choose, summed_nll, token_nll, with_positions
from micota.sft.packing import IGNORED, Tokens, borders, collate

SHAPE = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "pad_token_id": 0}


def plain(hidden: Any, weight: Any, bias: Any, labels: Any, divisor: float, cap: float | None) -> torch.Tensor:
    logits = functional.linear(hidden, weight, bias)
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    return functional.cross_entropy(logits, labels, reduction="sum") / divisor


@pytest.mark.parametrize("rows", [1, 5, 100])
@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("with_bias", [False, True])
def test_loss_and_gradients_equal_those_of_full_logits(rows: int, cap: float | None, with_bias: bool) -> None:
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(13, 8), torch.randn(31, 8), torch.randn(31) if with_bias else None
    labels = torch.randint(0, 31, (13,))
    results = []
    for function in (plain, None):
        inputs = [None if t is None else t.clone().requires_grad_() for t in (hidden, weight, bias)]
        if function is None:
            loss = summed_nll(inputs[0], inputs[1], labels, 7.0, bias=inputs[2], cap=cap, rows=rows)
        else:
            loss = function(*inputs, labels, 7.0, cap)
        (3 * loss).backward()
        results.append([loss.detach(), *(leaf.grad for leaf in inputs if leaf is not None)])
    for expected, value in zip(*results, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_what_needs_no_gradient_gets_none() -> None:
    hidden, weight = torch.randn(4, 8, requires_grad=True), torch.randn(9, 8)
    summed_nll(hidden, weight, torch.zeros(4, dtype=torch.long), 1.0).backward()
    assert hidden.grad is not None and weight.grad is None
    assert not summed_nll(hidden.detach(), weight, torch.zeros(4, dtype=torch.long), 1.0).requires_grad


class Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(function))
        if function is torch.ops.aten.addmm.dtype_out:  # a fake tensor of a GPU cannot be written to on a CPU
            return kwargs["out"]
        return function(*args, **(kwargs or {}))


def operations_on_gpu(*, bias: bool = False) -> list[str]:
    """The operations of the loss on tensors of a GPU that have no data."""
    chunked._can_sum_in_float32.cache_clear()
    with FakeTensorMode(), Operations() as operations:
        hidden, weight, offset = (
            torch.ones(*shape, dtype=torch.bfloat16, device="cuda") for shape in ((6, 8), (16, 8), (16,))
        )
        logits = chunked._logits(hidden, weight, offset if bias else None)
        assert logits.dtype == torch.float32
        chunked._add_product(torch.zeros_like(weight, dtype=torch.float32), logits.T.bfloat16(), hidden)
    chunked._can_sum_in_float32.cache_clear()
    return operations.names


@pytest.mark.parametrize("bias", [False, True])
def test_products_on_a_gpu_are_float32_at_once(bias: bool) -> None:
    names = operations_on_gpu(bias=bias)
    assert names.count("aten.mm.dtype") == 1 and "aten.addmm.dtype_out" in names
    assert {name for name in names if name.startswith(("aten.mm", "aten.addmm"))} <= {
        "aten.mm.dtype", "aten.addmm.dtype_out",
    }  # fmt: skip


def test_a_pytorch_without_such_products_rounds_as_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("self and mat2 must have the same dtype, but got Float and BFloat16")  # of PyTorch 2.8

    monkeypatch.setattr(torch, "addmm", refuse)
    names = operations_on_gpu()
    assert "aten.mm.default" in names and "aten.mm.dtype" not in names


def test_float32_products_keep_what_a_rounding_to_bfloat16_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the products of a GPU computed on the CPU: inputs of bfloat16, sums of float32."""
    torch.manual_seed(0)
    hidden, weight = (torch.randn(count, 16).bfloat16() for count in (64, 31))
    labels = torch.randint(0, 31, (64,))
    exact = [tensor.double().requires_grad_() for tensor in (hidden, weight)]
    plain(*exact, None, labels, 64.0, None).backward()

    def error() -> float:
        leaves = [tensor.clone().requires_grad_() for tensor in (hidden, weight)]
        total = torch.zeros_like(weight, dtype=torch.float32)
        summed_nll(*leaves, labels, 64.0, rows=4, into=total).backward()
        return float((total.double() - exact[1].grad).norm() / exact[1].grad.norm())

    rounded = error()
    mm, addmm = torch.mm, torch.addmm
    monkeypatch.setattr(chunked, "_can_sum_in_float32", lambda device: True)
    monkeypatch.setattr(torch, "mm", lambda a, b, out_dtype=None, out=None: (
        mm(a, b, out=out) if out_dtype is None else mm(a.to(out_dtype), b.to(out_dtype))
    ))  # fmt: skip
    monkeypatch.setattr(torch, "addmm", lambda c, a, b, out_dtype, out: (
        addmm(c, a.to(out_dtype), b.to(out_dtype), out=out)
    ))  # fmt: skip
    assert error() < 0.5 * rounded


def test_bfloat16_is_summed_in_float32() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(64, 32), torch.randn(128, 32, requires_grad=True)
    labels = torch.randint(0, 128, (64,))
    exact = summed_nll(hidden, weight, labels, 64.0)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = summed_nll(hidden, weight, labels, 64.0, rows=8)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=1e-2, atol=1e-2)
    rounded.backward()
    assert weight.grad is not None and weight.grad.dtype == torch.float32


def test_a_kernel_that_is_not_here_is_refused() -> None:
    assert choose("auto", "cpu") == choose("chunked", "cuda") == "chunked"
    with pytest.raises(ConfigError, match=r"trainer\.loss='liger' needs a GPU"):
        choose("liger", "cpu")


def test_nothing_to_learn_is_a_loss_of_zero() -> None:
    """A rank without rows takes part with an empty batch."""
    hidden, weight = torch.randn(0, 8, requires_grad=True), torch.randn(9, 8, requires_grad=True)
    loss = summed_nll(hidden, weight, torch.zeros(0, dtype=torch.long), 5.0)
    loss.backward()
    assert float(loss.detach()) == 0 and weight.grad is not None and not weight.grad.any()


def test_nll_equals_that_of_the_plain_model() -> None:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE, num_attention_heads=2))
    tokens = Tokens(ids=torch.randint(2, 64, (30,)).tolist(), num_prompt=3)
    ids = torch.tensor([tokens.ids])
    labels = ids.clone()
    labels[:, : tokens.num_prompt] = IGNORED
    torch.testing.assert_close(token_nll(model, collate([tokens], 64)).mean(), model(input_ids=ids, labels=labels).loss)


@pytest.mark.parametrize("config", [
    GraniteConfig(**SHAPE, num_attention_heads=2, logits_scaling=8.0),
    CohereConfig(**SHAPE, num_attention_heads=2, logit_scale=0.0625),
], ids=lambda config: config.model_type)  # fmt: skip
def test_factors_on_logits_are_in_loss_and_gradient(config: Any) -> None:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    ids = torch.randint(2, 64, (1, 30))
    batch = collate([Tokens(ids=ids[0].tolist(), num_prompt=1)], 64)
    with torch.no_grad():
        for weight in model.parameters():  # logits of about 1
            weight.mul_(8)
    expected = model(input_ids=ids, labels=ids).loss
    expected.backward()
    gradients = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    torch.testing.assert_close(token_nll(model, batch).mean(), expected)
    loss = Objective(model)(batch, borders(batch["position_ids"]), 29)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    for gradient, weight in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-4, atol=2e-5)


class Operators(TorchDispatchMode):
    """Notes the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(function).removesuffix(".default"))
        return function(*args, **(kwargs or {}))


def test_a_micro_batch_never_waits_for_the_device() -> None:
    """Operators whose result or shape depends on data: on a GPU each waits for all earlier kernels."""
    model, batch = model_of("llama", "sequences"), collate(sequences(), 96)
    edges, objective = borders(batch["position_ids"]), Objective(model)
    waits = {"aten.nonzero", "aten._local_scalar_dense", "aten.masked_select", "aten.index.Tensor"}
    with Operators() as seen:
        objective(batch, edges, 9.0).backward()
    assert "aten.nonzero" in seen.names  # it looks for them itself
    prepared = with_positions(batch)
    with Operators() as seen:
        objective(prepared, edges, 9.0).backward()
    assert seen.names & waits == set() and "aten.index_select" in seen.names


@pytest.mark.slow  # it needs the extra liger and triton, which a CPU build of PyTorch does not bring
def test_ligers_loss_in_tritons_interpreter() -> None:
    """On CPU; a bound of the logits is not supported there."""
    for package in ("triton", "liger_kernel"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: pip install triton==3.7.1 'micota[liger]'")
    finished = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("liger_interpreted.py"))],
        capture_output=True, text=True, check=False, env=os.environ | {"TRITON_INTERPRET": "1"},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    errors = json.loads(finished.stdout.splitlines()[-1])
    assert max(errors["float32"] + errors["float32 with bias"]) < 1e-5
    assert max(errors["bfloat16"] + errors["autocast"]) < 2e-2
    assert errors["no tokens"] == [0.0]
