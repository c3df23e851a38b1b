"""``torch.compile`` of each transformer layer, which fuses what lies between products: norms, rotations, activations.

Attention runs as it is, between the two compiled parts of a layer. The borders of sequences reach it as one object that
the compiler does not look into: their number and lengths differ from one micro-batch to the next, and each other number
would be compiled again. The numbers of rows and tokens are variables of the compiled code.

The compiler computes again in the backward pass what it can fuse there (its min-cut partitioner), and keeps the results
of products. This is selective activation checkpointing, so that none other is set up for that kind.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from transformers import AttentionInterface

from micota.errors import ConfigError
from micota.sft import attention
from micota.sft.sharding import layers

BORDERS = ("lengths", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")  # of packing.borders
KERNELS: dict[str, Callable[..., Any]] = {
    "flash_attn": attention.flash_attn,
    "varlen": attention.varlen,
    "sequences": attention.by_sequence,
}


class Edges:
    """Borders of sequences as one object."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values


def check(device: str) -> None:
    """Refuse ``trainer.compile`` where code cannot be compiled.

    Args:
        device: ``cpu`` or ``cuda``.

    Raises:
        ConfigError: the text names what is missing.
    """
    compilers = (os.environ.get("CXX", "g++"), "clang++")
    missing = None
    if device == "cuda" and find_spec("triton") is None:
        missing = "the package triton"
    elif device == "cpu" and not any(map(shutil.which, compilers)):
        missing = "a C++ compiler (g++, clang++, or that of the variable CXX)"
    if missing:
        raise ConfigError(f"trainer.compile=true needs {missing}; accepted here: false")


def compile_layers(model: Any, backend: Any = "inductor") -> None:
    """Compile the layers of a Hugging Face model, when each first trains. Before sharding: FSDP2 gathers weights around
    a layer's forward pass. In evaluation mode layers run as they are, so that generation compiles nothing.

    Args:
        backend: of ``torch.compile``.
    """
    for name, kernel in KERNELS.items():
        uncompiled = torch.compiler.disable(_opened(kernel))  # type: ignore[no-untyped-call]
        AttentionInterface.register(attention.BY_SEQUENCE[name], uncompiled)
    for layer in layers(model):
        layer.forward = _switched(layer, torch.compile(layer.forward, backend=_recomputing(backend), dynamic=True))


def _recomputing(backend: Any) -> Callable[..., Any]:
    """A backend that keeps for the backward pass what cannot be fused, and nothing else."""

    def compiled(graph: Any, inputs: Any) -> Any:
        import torch._functorch.config
        from torch._dynamo.backends.registry import lookup_backend

        # By default inputs of products are kept too: 4 widths of the model and 3 of the MLP instead of 3 and 2.
        with torch._functorch.config.patch(aggressive_recomputation=True):
            return lookup_backend(backend)(graph, inputs)

    return compiled


def _opened(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel that takes borders as one object too."""

    def attend(*inputs: Any, edges: Edges | None = None, **options: Any) -> Any:
        return kernel(*inputs, **options, **(edges.values if edges else {}))

    return attend


def _switched(layer: Any, compiled: Callable[..., Any]) -> Callable[..., Any]:
    plain = layer.forward

    def forward(*inputs: Any, **options: Any) -> Any:
        if not layer.training:
            return plain(*inputs, **options)
        edges = Edges({name: options.pop(name) for name in BORDERS if name in options})
        return compiled(*inputs, edges=edges, **options)

    return forward
