"""What limits a step of full fine-tuning on a GPU: time of matrix products, attention and all other operations.

    python benchmarks/roofline.py [--sizes 1.5b,3b,7b,14b] [--hardware h100x1,h200x1] [--tokens 16384] [--length 4096]

No GPU is needed, and none is measured. A micro-batch of ``--tokens`` runs with fake tensors, which have shapes and no
data, and each operation is counted as PyTorch calls it: FLOPs of products, and bytes that all else reads and writes.
Times follow from the peak and the bandwidth of conf/hardware and the shares below. ``MFU`` is what the model needs over
the peak; ``where the rest goes`` names the share of the time of each part.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

import torch
from sft_gpu import SIZES, architecture
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AttentionInterface, AutoModelForCausalLM

from micota.config.hardware import device_named
from micota.sft.activation_checkpointing import ActivationCheckpointing
from micota.sft.activations import CHUNK_LOGITS
from micota.sft.losses import Objective
from micota.sft.shape import Shape

# Shares of the data sheet that good kernels reach: large bf16 products and FlashAttention-3 as published (620 and, with
# backward, 330 of 989 TFLOP/s on an H100; arXiv 2407.08608), and copies on Hopper (2.6 of 3.35 TB/s).
PRODUCTS, ATTENTION, BANDWIDTH = 0.63, 0.33, 0.78
KINDS = {"1.5b": "selective", "3b": "full", "7b": "full", "14b": "full", "tiny": "none"}  # that fit 80 GB, or 141 GB


@dataclass
class Counted:
    """Of a forward and backward pass: FLOPs of products, attention in calls of a forward pass, bytes of the rest."""

    products: float = 0
    attention: float = 0
    bytes: float = 0

    def __post_init__(self) -> None:
        self.largest: Counter[str] = Counter()


class Count(TorchDispatchMode):
    """Counts every operation that PyTorch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.counted = Counted()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        inputs, outputs = (
            [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)] for tree in ((args, kwargs), output)
        )
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm"):
            left, right = args[-2:]  # after a bias; not of the keywords, which may have the output
            self.counted.products += 2 * left.shape[0] * left.shape[1] * right.shape[1]
        elif name == "attention_of_rows":
            self.counted.attention += 1
        elif name == "attention_of_rows_backward":
            self.counted.attention += 2.5  # five products instead of two
        elif outputs and not name.startswith(("empty", "detach")):
            self._moved(name, inputs, outputs)
        return output

    def _moved(self, name: str, inputs: list[torch.Tensor], outputs: list[torch.Tensor]) -> None:
        in_place = name.endswith("_")
        storages = {tensor.untyped_storage()._cdata for tensor in inputs}
        if not in_place and any(tensor.untyped_storage()._cdata in storages for tensor in outputs):
            return  # a view
        count = sum(tensor.numel() * tensor.element_size() for tensor in [*inputs, *outputs])
        self.counted.bytes += count
        self.counted.largest[name] += count


@torch.library.custom_op("micota_roofline::attention_of_rows", mutates_args=())
def attention_of_rows(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """A kernel without arithmetic: shapes alone, as fake tensors have them."""
    return torch.empty_like(query)


@torch.library.custom_op("micota_roofline::attention_of_rows_backward", mutates_args=())
def attention_of_rows_backward(
    gradient: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


attention_of_rows.register_fake(lambda query, key, value: torch.empty_like(query))
attention_of_rows_backward.register_fake(
    lambda gradient, query, key, value: (torch.empty_like(query), torch.empty_like(key), torch.empty_like(value))
)
attention_of_rows.register_autograd(
    lambda ctx, gradient: attention_of_rows_backward(gradient, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


def kernel(module: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
    """An attention implementation of transformers: queries, keys and values as kernels of packed rows take them."""
    flat = [tensor.transpose(1, 2).flatten(0, 1) for tensor in (query, key, value)]
    rows, heads, width, size = query.shape
    return attention_of_rows(*flat).view(rows, width, heads, size), None


def all_supervised(model: Any, batch: Any, borders: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """``losses.supervised`` where every position has a label: fake tensors have no values to choose positions by."""
    hidden = model.base_model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False)
    return hidden.last_hidden_state[0].clone(), batch["labels"][0]


@cache
def count(size: str, kind: str, tokens: int) -> tuple[Counted, Shape]:
    """A forward and a backward pass of a micro-batch in bfloat16, as FSDP2 computes, with gradients there already."""
    AttentionInterface.register("roofline", kernel)
    chunks = {"cpu": CHUNK_LOGITS["cuda"]}
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        patch("micota.sft.losses.supervised", all_supervised),
        patch.dict(CHUNK_LOGITS, chunks),
    ):
        config = architecture(size)
        model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="roofline", dtype=torch.bfloat16)
        objective = Objective(model.train(), checkpointing=ActivationCheckpointing(model, {kind: tokens}))
        ids = torch.ones(1, tokens, dtype=torch.long)
        batch = {"input_ids": ids, "position_ids": torch.arange(tokens)[None], "labels": ids}
        for weight in model.parameters():
            weight.grad = torch.empty_like(weight)
        with Count() as mode:
            objective(batch, {}, float(tokens)).backward()
        return mode.counted, Shape.of(model)


def row(size: str, hardware: str, tokens: int, length: int) -> list[str]:
    """The line of the table for a size and an option of conf/hardware."""
    kind = KINDS[size]
    counted, shape = count(size, kind, tokens)
    gpu = device_named(hardware)
    lengths = [length] * (tokens // length)
    # Forward: 2 x 2 x length^2 x width, half of it as it is causal. A call is one layer.
    of_call = 2 * sum(length**2 for length in lengths) * shape.attention
    parts = {
        "products": counted.products / (PRODUCTS * gpu.peak_tflops * 1e12),
        "attention": counted.attention * of_call / (ATTENTION * gpu.peak_tflops * 1e12),
        "other operations": counted.bytes / (BANDWIDTH * gpu.bandwidth_gb_s * 1e9),
    }
    seconds = sum(parts.values())
    needed = shape.flops(lengths, tokens)
    limit = max(parts, key=lambda name: parts[name])
    largest = ", ".join(f"{name} {amount / counted.bytes:.0%}" for name, amount in counted.largest.most_common(3))
    cells = [size, kind, gpu.device, *(f"{parts[name] * 1e3:.0f}" for name in parts), f"{tokens / seconds / 1e3:.1f}K"]
    again = counted.products + counted.attention * of_call - needed
    shares = f"{limit} {parts[limit] / seconds:.0%}; computed again {max(0.0, again) / needed:.0%}; bytes: {largest}"
    return [*cells, f"{needed / seconds / (gpu.peak_tflops * 1e12):.0%}", shares]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1.5b,3b,7b,14b", help="of " + ", ".join(SIZES))
    parser.add_argument("--hardware", default="h100x1,h200x1", help="options of conf/hardware")
    parser.add_argument("--tokens", type=int, default=16384, help="of a micro-batch")
    parser.add_argument("--length", type=int, default=4096, help="of a sequence in it")
    options = parser.parse_args()
    names = ["size", "checkpointing", "GPU", "products, ms", "attention, ms", "other, ms", "tokens/s", "MFU", "limit"]
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for size in options.sizes.split(","):
        for hardware in options.hardware.split(","):
            print("| " + " | ".join(row(size, hardware, options.tokens, options.length)) + " |", flush=True)


if __name__ == "__main__":
    main()
