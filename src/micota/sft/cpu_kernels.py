"""Norms, gated MLPs and embeddings that save memory in the backward pass, on CPU in float32 (no fused kernels there).

Autograd keeps the inputs of every operation of a module. The functions here keep the inputs of the module, and compute
the elementwise rest again: they save a third of the activations of a Llama layer, and passes over memory. Outputs are
the same to the bit; gradients are summed in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch.nn import functional

from micota.config import TrainerConfig

# Classes of transformers that compute weight * x / rms(x), and down(silu(gate(x)) * up(x)). Gemma's differ.
NORMS = ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm")
MLPS = ("LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP")


def use_cpu_kernels(model: Any, trainer: TrainerConfig) -> None:
    """Replace the forward methods of the modules that these functions implement."""
    if trainer.accelerator != "cpu" or trainer.precision != "32-true":
        return
    for module in model.modules():
        name = type(module).__name__
        if name in NORMS:
            _replace(module, _norm)
        elif name in MLPS and _is_plain(module):
            _replace(module, _mlp)
    # Not in shards: FSDP2 collects gradients from autograd, and this function bypasses autograd.
    embedding = model.get_input_embeddings()
    if not trainer.is_sharded and type(embedding) is torch.nn.Embedding:
        _replace(embedding, _embed)


def _replace(module: Any, forward: Callable[..., torch.Tensor]) -> None:
    module.forward = MethodType(forward, module)


def _is_plain(mlp: Any) -> bool:
    """Whether its last product is a plain matrix product (without an adapter) and its activation is SiLU."""
    return type(mlp.down_proj) is torch.nn.Linear and mlp.down_proj.bias is None and mlp.config.hidden_act == "silu"


def _norm(module: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    scaled: torch.Tensor = _RmsNorm.apply(hidden_states, module.weight, module.variance_epsilon)  # type: ignore[no-untyped-call]
    return scaled


def _mlp(module: Any, x: torch.Tensor) -> torch.Tensor:
    gate, up = module.gate_proj(x), module.up_proj(x)
    down: torch.Tensor = _GatedDown.apply(gate, up, module.down_proj.weight)  # type: ignore[no-untyped-call]
    return down


def _embed(module: Any, ids: torch.Tensor) -> torch.Tensor:
    embedded: torch.Tensor = _Rows.apply(ids, module.weight, module.padding_idx)  # type: ignore[no-untyped-call]
    return embedded


class _RmsNorm(torch.autograd.Function):
    """weight * x / sqrt(mean(x^2) + eps), as in Zhang & Sennrich 2019 (arXiv 1910.07467)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        # Keeps x and one value per token; autograd would keep x * scale too, which backward computes again.
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        [grad] = grads
        normed = x * scale
        # y = w n with n = x s: dw is the sum over tokens of dy n.
        grad_weight = (grad * normed).flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, None
        # With u = w dy: dx = s (u - n mean(u n)), without the part of u along n, since n has a fixed length.
        inner = grad * weight
        projection = (inner * normed).mean(-1, keepdim=True)
        return inner.sub_(normed.mul_(projection)).mul_(scale), grad_weight, None


class _GatedDown(torch.autograd.Function):
    """(silu(gate) * up) @ weight.T, the end of SwiGLU (Shazeer 2020, arXiv 2002.05202)."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        # Keeps two tensors of the MLP's width; autograd would keep silu(gate) and the product too.
        ctx.save_for_backward(gate, up, weight)
        return functional.linear(functional.silu(gate).mul_(up), weight)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gate, up, weight = ctx.saved_tensors
        [grad] = grads
        active = functional.silu(gate)
        grad_weight = None
        if ctx.needs_input_grad[2]:
            grad_weight = grad.flatten(0, -2).T @ (active * up).flatten(0, -2)
        # p = silu(g) u: du = dp silu(g), dg = dp u silu'(g).
        grad_product = grad @ weight
        grad_up = active.mul_(grad_product)
        return torch.ops.aten.silu_backward(grad_product.mul_(up), gate), grad_up, grad_weight


class _Rows(torch.autograd.Function):
    """Rows of a table. Their gradient is added to ``weight.grad`` directly; autograd would first fill a table of zeros.
    The row of ``padding_idx`` has no gradient, as in torch.nn.Embedding."""

    @staticmethod
    def forward(ctx: Any, ids: torch.Tensor, weight: torch.Tensor, padding_idx: int | None) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.weight, ctx.padding_idx = weight, padding_idx
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, ...]:
        [ids], [grad], weight = ctx.saved_tensors, grads, ctx.weight
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        # index_add_ sums the rows of repeated tokens.
        learns = torch.ones_like(ids, dtype=torch.bool) if ctx.padding_idx is None else ids != ctx.padding_idx
        weight.grad.index_add_(0, ids[learns], grad[learns])
        return None, None, None
