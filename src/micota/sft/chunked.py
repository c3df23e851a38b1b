"""A loss of logits and its gradients, with the logits of only one chunk of tokens in memory.

The forward pass also computes the gradients, while the logits exist, as in Liger Kernel (arXiv 2410.10989, section
3.2), so that no logits are kept or computed twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.nn import functional

from micota.sft.activations import CHUNK_LOGITS

# Of logits (tokens x vocabulary, float32, may be changed), the first token of the chunk and whether the gradient is
# wanted: the sum of the loss over the tokens, and its gradient with respect to the logits, or None.
Score = Callable[[torch.Tensor, int, bool], tuple[torch.Tensor, torch.Tensor | None]]


def chunked_loss(
    score: Score,
    hidden: torch.Tensor,
    weight: torch.Tensor,
    divisor: float,
    *,
    bias: torch.Tensor | None = None,
    cap: float | None = None,
    rows: int | None = None,
    into: torch.Tensor | None = None,
) -> torch.Tensor:
    """The sum of a loss of all tokens over ``divisor``: a float32 scalar to train on.

    Args:
        score: the loss of a chunk; its gradient is already over ``divisor``, its sum is not.
        hidden: tokens x hidden. ``weight``: of the output head, vocabulary x hidden; ``bias``: vocabulary.
        cap: bound of the logits by tanh, as in Gemma 2.
        rows: tokens per chunk of logits; the default depends on the device.
        into: the gradient of ``weight`` is added to this tensor (float32, of its shape) in this call, for a loss that
            is not rescaled; autograd then returns none. This saves a copy of the output head at the peak of memory,
            while the activations of all layers exist.
    """
    # Autocast casts the inputs of torch's products, not those of a Function.
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    rows = rows or chunk_rows(weight, hidden)
    # With ``into`` the gradient is complete when forward ends, and autograd must not add it a second time.
    head = weight if into is None else weight.detach()
    total: torch.Tensor = _Chunked.apply(hidden, head, bias, score, divisor, cap, rows, into)  # type: ignore[no-untyped-call]
    return total


def chunk_rows(weight: torch.Tensor, hidden: torch.Tensor) -> int:
    """Tokens in a chunk."""
    return max(1, CHUNK_LOGITS.get(hidden.device.type, CHUNK_LOGITS["cpu"]) // len(weight))


class _Chunked(torch.autograd.Function):
    """Loss and gradients, one chunk at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        score: Score,
        divisor: float,
        cap: float | None,
        rows: int,
        into: torch.Tensor | None,
    ) -> torch.Tensor:
        # Once for all chunks; under autocast a bfloat16 copy of the float32 weight.
        used = weight.to(hidden.dtype)
        wants = ctx.needs_input_grad
        # Each row of the gradient of hidden states is computed once; the weight's is a sum over chunks, in float32.
        grad_hidden = torch.empty_like(hidden) if wants[0] else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants[1] else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and wants[2] else None
        weight_sum = grad_weight if into is None else into
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(hidden), rows):
            part = hidden[start : start + rows]
            logits = _logits(part, used, bias)
            slope = None
            # d/dx cap tanh(x / cap) = 1 - tanh(x / cap)^2, kept for the backward of the bound.
            if cap is not None:
                logits = logits.div_(cap).tanh_()
                slope = 1 - logits.square() if any(wants[:3]) else None
                logits = logits.mul_(cap)
            value, grad = score(logits, start, any(wants[:3]))
            total += value
            if grad is None:  # validation
                continue
            grad = (grad if slope is None else grad.mul_(slope)).to(hidden.dtype)
            # logits = hidden W^T + b: d hidden = g W, d W = g^T hidden, d b = the sum of g over tokens.
            if grad_hidden is not None:
                torch.mm(grad, used, out=grad_hidden[start : start + rows])
            if weight_sum is not None:
                _add_product(weight_sum, grad.T, part)
            if grad_bias is not None:
                grad_bias += grad.sum(0)
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.dtypes = (weight.dtype, None if bias is None else bias.dtype)
        return total / divisor

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Any, ...]:
        hidden, weight, bias = ctx.saved_tensors
        # The gradient of the loss with respect to itself: 1, unless a caller scales the loss.
        [factor] = grads
        return (
            None if hidden is None else hidden * factor.to(hidden.dtype),
            None if weight is None else weight.mul_(factor).to(ctx.dtypes[0]),
            None if bias is None else bias.mul_(factor).to(ctx.dtypes[1]),
            *[None] * 5,
        )


def _logits(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Logits in float32 (tokens x vocabulary), from inputs of one dtype."""
    if hidden.dtype != torch.float32 and _can_sum_in_float32(hidden.device.type):
        logits = torch.mm(hidden, weight.T, out_dtype=torch.float32)
        return logits if bias is None else logits.add_(bias)
    return functional.linear(hidden, weight, None if bias is None else bias.to(hidden.dtype)).float()


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """Add ``left @ right`` to a float32 sum, where possible without a product of its size in between."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    elif _can_sum_in_float32(total.device.type):
        torch.addmm(total, left, right, out_dtype=torch.float32, out=total)
    else:
        total += left @ right


@cache
def _can_sum_in_float32(device: str) -> bool:
    """Whether products of bfloat16 are float32 here, as the units of a GPU sum them, without a rounding to bfloat16.

    CPUs have no such product, and older versions of PyTorch refuse to add it to a float32 sum, so it is tried.
    """
    if device != "cuda":
        return False
    half, total = (torch.ones(16, 16, dtype=dtype, device=device) for dtype in (torch.bfloat16, torch.float32))
    try:
        torch.addmm(total, half, half, out_dtype=torch.float32, out=total)
    except (RuntimeError, TypeError):
        return False
    return True
