"""Liger's loss in Triton's interpreter against float64; prints the relative errors of loss and gradients as JSON.

Run as a program, with ``TRITON_INTERPRET=1``: Triton reads it when it is imported.
"""

from __future__ import annotations

import json

import torch
from torch.nn import functional

from micota.sft.losses import liger_nll


def errors(dtype: torch.dtype, weight_dtype: torch.dtype, *, bias: bool, autocast: bool) -> list[float]:
    """Of the loss, and of the gradients of hidden states, weight and bias."""
    torch.manual_seed(0)
    hidden = torch.randn(37, 32).to(dtype).requires_grad_()
    weight = (torch.randn(515, 32) * 0.3).to(weight_dtype).requires_grad_()
    tensors = [hidden, weight] + ([torch.randn(515).to(weight_dtype).requires_grad_()] if bias else [])
    labels = torch.randint(0, 515, (37,))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast, cache_enabled=False):
        loss = liger_nll(hidden, weight, labels, 123.0, bias=tensors[2] if bias else None)
    loss.backward()
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    logits = functional.linear(*exact)
    expected = functional.cross_entropy(logits, labels, reduction="sum") / 123.0
    expected.backward()
    pairs = [(loss.detach(), expected.detach()), *((t.grad, e.grad) for t, e in zip(tensors, exact, strict=True))]
    return [float((seen.double() - wanted).norm() / wanted.norm()) for seen, wanted in pairs]


def main() -> None:
    single, half = torch.float32, torch.bfloat16
    nothing = liger_nll(torch.randn(0, 32), torch.randn(515, 32), torch.zeros(0, dtype=torch.long), 9.0)
    print(
        json.dumps({
            "float32": errors(single, single, bias=False, autocast=False),
            "float32 with bias": errors(single, single, bias=True, autocast=False),
            "bfloat16": errors(half, half, bias=False, autocast=False),
            "autocast": errors(single, single, bias=False, autocast=True),
            "no tokens": [float(nothing)],
        })
    )  # fmt: skip


if __name__ == "__main__":
    main()
