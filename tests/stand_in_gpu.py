"""A stand-in for a GPU: the contracts of its kernels, on CPU, so that the branches for CUDA run without one.

The kernels have the signatures and refuse the arguments that the real ones refuse. They compute in float32, one
sequence at a time, and so are the reference too.
"""

from __future__ import annotations

import importlib.machinery
import sys
from types import ModuleType
from typing import Any

import pytest
import torch


class Kernels:
    """The two kernels; ``calls`` has the name and the options of each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def varlen_attn(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cu_seq_q: torch.Tensor,
        cu_seq_k: torch.Tensor | None,
        max_q: int,
        max_k: int,
        *,
        return_aux: Any = None,
        scale: float | None = None,
        window_size: tuple[int, int] = (-1, -1),
        enable_gqa: bool = False,
        seqused_k: torch.Tensor | None = None,
        block_table: torch.Tensor | None = None,
        num_splits: int | None = None,
    ) -> torch.Tensor:
        """``torch.nn.attention.varlen.varlen_attn`` of torch 2.13."""
        assert cu_seq_k is not None
        check(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k)
        if not enable_gqa and query.shape[1] != key.shape[1]:
            raise ValueError("number of heads in key/value must match query; set enable_gqa=True")
        self.calls.append(("varlen", {"window_size": window_size, "enable_gqa": enable_gqa}))
        return reference(query, key, value, cu_seq_q, scale, window_size, 0.0)

    def varlen_attn_of_2_11(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cu_seq_q: torch.Tensor,
        cu_seq_k: torch.Tensor,
        max_q: int,
        max_k: int,
        is_causal: bool = False,
        return_aux: Any = None,
        *,
        scale: float | None = None,
    ) -> torch.Tensor:
        """The same function of torch 2.11, without windows and shared heads."""
        check(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k)
        assert query.shape[1] == key.shape[1]
        self.calls.append(("varlen_2_11", {"is_causal": is_causal}))
        return reference(query, key, value, cu_seq_q, scale, (-1, 0 if is_causal else -1), 0.0)

    def flash_attn_varlen_func(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        cu_seqlens_q: torch.Tensor,
        cu_seqlens_k: torch.Tensor,
        max_seqlen_q: int,
        max_seqlen_k: int,
        dropout_p: float = 0.0,
        softmax_scale: float | None = None,
        causal: bool = False,
        window_size: tuple[int, int] = (-1, -1),
        softcap: float = 0.0,
        alibi_slopes: torch.Tensor | None = None,
        deterministic: bool = False,
        return_attn_probs: bool = False,
        block_table: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """``flash_attn_varlen_func`` of flash-attn 2.8."""
        check(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
        assert dropout_p == 0, "the reference has no dropout"
        self.calls.append(("flash_attn", {"window_size": window_size, "softcap": softcap}))
        window = (window_size[0], 0) if causal else window_size
        return reference(q, k, v, cu_seqlens_q, softmax_scale, window, softcap)


def check(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_q: torch.Tensor,
    cu_k: torch.Tensor,
    max_q: int,
    max_k: int,
) -> None:
    """The checks of ``mha_varlen_fwd``, with its texts."""
    if query.dtype not in (torch.float16, torch.bfloat16):
        raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
    if key.dtype != query.dtype:
        raise RuntimeError("query and key must have the same dtype")
    if value.dtype != query.dtype:
        raise RuntimeError("query and value must have the same dtype")
    if cu_q.dtype != torch.int32 or cu_k.dtype != torch.int32:
        raise RuntimeError("cu_seqlens must have dtype int32")
    if not (cu_q.is_contiguous() and query.stride(-1) == key.stride(-1) == value.stride(-1) == 1):
        raise RuntimeError("Input tensor must have contiguous last dimension")
    assert query.dim() == key.dim() == value.dim() == 3 and key.shape == value.shape
    if query.shape[2] % 8 or query.shape[2] > 256:
        raise RuntimeError("FlashAttention forward only supports head dimension at most 256, a multiple of 8")
    if query.shape[1] % key.shape[1]:
        raise RuntimeError("Number of heads in key/value must divide number of heads in query")
    assert type(max_q) is int and type(max_k) is int, "not a number of Python: reading it from the GPU would wait"
    longest = int((cu_q[1:] - cu_q[:-1]).max())
    assert int(cu_q[0]) == 0 and int(cu_q[-1]) == len(query) and longest == max_q == max_k


def reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu: torch.Tensor,
    scale: float | None,
    window: tuple[int, int],
    softcap: float,
) -> torch.Tensor:
    """Attention within sequences, tokens x heads x size; a window of (left, right) keys, -1 is no limit."""
    groups = query.shape[1] // key.shape[1]
    outputs = []
    for start, stop in zip(cu[:-1].tolist(), cu[1:].tolist(), strict=True):
        q = query[start:stop].transpose(0, 1).float()
        k, v = (t[start:stop].repeat_interleave(groups, 1).transpose(0, 1).float() for t in (key, value))
        scores = q @ k.transpose(1, 2) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if softcap:
            scores = softcap * torch.tanh(scores / softcap)
        row, column = torch.arange(stop - start)[:, None], torch.arange(stop - start)[None]
        seen = torch.ones(stop - start, stop - start, dtype=torch.bool)
        seen &= column >= row - window[0] if window[0] >= 0 else seen
        seen &= column <= row + window[1] if window[1] >= 0 else seen
        outputs.append((scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(outputs).to(query.dtype)


def install_kernels(patch: pytest.MonkeyPatch, *, flash_attn: bool = True, old_torch: bool = False) -> Kernels:
    """Put the kernels in the place of the real ones.

    Args:
        flash_attn: whether the package flash-attn is installed.
        old_torch: whether ``varlen_attn`` is that of torch 2.11.
    """
    import torch.nn.attention.varlen

    kernels = Kernels()
    varlen = kernels.varlen_attn_of_2_11 if old_torch else kernels.varlen_attn
    patch.setattr(torch.nn.attention.varlen, "varlen_attn", varlen)
    package = ModuleType("flash_attn")
    package.__spec__ = importlib.machinery.ModuleSpec("flash_attn", None) if flash_attn else None
    package.flash_attn_varlen_func = kernels.flash_attn_varlen_func  # type: ignore[attr-defined]
    if flash_attn:
        patch.setitem(sys.modules, "flash_attn", package)
    return kernels


def install(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    """``trainer.accelerator=gpu`` on a CPU: every choice is that of a GPU (placement, precision, kernels, shards), and
    tensors lie in the machine's memory. flash-attn is not installed."""
    from lightning.pytorch.trainer.connectors.accelerator_connector import _AcceleratorConnector

    monkeypatch.setattr(_AcceleratorConnector, "_choose_gpu_accelerator_backend", staticmethod(lambda: "cpu"))
    monkeypatch.setattr("micota.sft.device.device_bytes", lambda trainer: 80 * 2**30)
    monkeypatch.setattr("micota.sft.sharding.backend", lambda trainer: "gloo")
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self, *_: self)  # for copies to a GPU
    monkeypatch.setattr("micota.sft.fit.peak_flops", lambda trainer: None)
    return install_kernels(monkeypatch, flash_attn=False)
