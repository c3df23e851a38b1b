"""Rows that are divided among devices: context parallelism as in DeepSpeed-Ulysses (arXiv 2309.14509).

Each rank of a group holds a part of the tokens of the same rows: 1/P of them, for all layers. Only attention needs the
others. Before it, an all-to-all gives each rank all tokens of 1/P of the heads, and after it another one gives the
heads back. The kernels of :mod:`micota.sft.attention` then see whole rows with the borders of their sequences, so that
packed sequences, sliding windows and bounds on scores are those of one device. PyTorch's ring attention
(``torch.distributed.tensor.experimental.context_parallel``) has no borders of packed sequences and no CPU kernel.

The loss and its gradient are sums over tokens, so that each rank computes those of its tokens, and FSDP2 sums the
gradients over all ranks as without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import torch
from torch import distributed
from torch.distributed import ProcessGroup

from micota.config import TrainerConfig
from micota.errors import ConfigError
from micota.sft.packing import IGNORED, Batch
from micota.sft.targets import NUMBERS

GROUP = "context_group"  # the argument of attention kernels that holds the group
BY_TOKENS = ("full_attention", "sliding_attention")  # layers in which tokens meet in attention alone
BY_LENGTH = ("longrope", "dynamic")  # rotary embeddings that depend on the longest position of a batch


def check(settings: Any, kernel: str, trainer: TrainerConfig) -> None:
    """Refuse a model whose rows cannot be divided.

    Args:
        settings: transformers' config of the model.
        kernel: of :func:`micota.sft.attention.choose`.

    Raises:
        ConfigError: the text names what is in the way.
    """
    size = trainer.context_parallel
    if size == 1:
        return
    text = settings.get_text_config()
    others = sorted({*(getattr(text, "layer_types", None) or [])} - {*BY_TOKENS})
    rope = getattr(text, "rope_parameters", None) or {}
    every = [rope, *(value for value in rope.values() if isinstance(value, Mapping))]
    by_length = [kind["rope_type"] for kind in every if kind.get("rope_type") in BY_LENGTH]
    problem = None
    if text.num_attention_heads % size:
        divisors = [str(n) for n in range(2, text.num_attention_heads + 1) if text.num_attention_heads % n == 0]
        problem = (
            f"does not divide the {text.num_attention_heads} heads of the model; accepted: 1, {', '.join(divisors)}"
        )
    elif others:
        problem = f"with layers of {others[0]}, which pass a state from token to token; accepted: 1"
    elif by_length:
        problem = f"with rotary embeddings of {by_length[0]}, which depend on the length of the whole row; accepted: 1"
    elif kernel not in ("flash_attn", "varlen", "sequences"):
        problem = (
            f"with trainer.attention={kernel}, which reads borders of sequences from positions of the whole row; "
            "accepted: trainer.attention=flash_attn, varlen or sequences"
        )
    if problem is not None:
        raise ConfigError(f"trainer.context_parallel={size} {problem}")


def group_of(trainer: TrainerConfig) -> ProcessGroup | None:
    """The ranks that share the rows of this one, which follow each other; None if rows are not divided. Every rank
    must call this function."""
    if trainer.context_parallel == 1:
        return None
    group: ProcessGroup = distributed.new_subgroups(group_size=trainer.context_parallel)[0]  # type: ignore[no-untyped-call]
    return group


def padded(batch: Batch, parts: int) -> Batch:
    """The rows with as many columns as ``parts`` divides; each token that is added is a sequence without a label."""
    missing = -batch["input_ids"].shape[1] % parts
    fill = {"input_ids": 0, "position_ids": 0, "labels": IGNORED, NUMBERS: -1}
    return {name: torch.nn.functional.pad(values, (0, missing), value=fill[name]) for name, values in batch.items()}


def part(batch: Batch, group: ProcessGroup) -> Batch:
    """The columns of this rank. Labels are aligned with the positions that predict them, so that each has its own."""
    return {name: values.chunk(group.size(), dim=1)[group.rank()].contiguous() for name, values in batch.items()}


def divided(kernel: Callable[..., tuple[torch.Tensor, None]]) -> Callable[..., tuple[torch.Tensor, None]]:
    """An attention kernel that also takes parts of rows, where it gets a group of ranks.

    Shapes as in transformers: queries, keys and values rows x heads x width x size, with the width of the part; the
    borders of sequences are those of whole rows.
    """

    @wraps(kernel)
    def attend(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *,
        context_group: ProcessGroup | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        if context_group is None:
            return kernel(module, query, key, value, attention_mask, **options)
        key, value = (_enough_heads(states, query.shape[1], context_group.size()) for states in (key, value))
        whole = [_with_all_tokens(states.to(value.dtype), context_group) for states in (query, key, value)]
        output, _ = kernel(module, *whole, attention_mask, **options)
        return _with_all_heads(output, context_group), None

    return attend


def _enough_heads(states: torch.Tensor, heads: int, parts: int) -> torch.Tensor:
    """Key or value heads (dimension 1) that ``parts`` divides: each is repeated as often as that needs, at most once
    for each of the ``heads`` query heads, so that every rank has those of its query heads."""
    count = states.shape[1]
    if count % parts == 0:
        return states
    return states.repeat_interleave(parts // count if parts % count == 0 else heads // count, dim=1)


def _with_all_tokens(states: torch.Tensor, group: ProcessGroup) -> torch.Tensor:
    """rows x heads x width/P x size of all heads -> rows x heads/P x width x size of all tokens."""
    rows, heads, width, size = states.shape
    parts = group.size()
    sent = states.view(rows, parts, heads // parts, width, size).permute(1, 0, 2, 3, 4)  # by receiving rank
    received = exchange(sent, group)  # by sending rank, which is the order of tokens
    return received.permute(1, 2, 0, 3, 4).reshape(rows, heads // parts, parts * width, size)


def _with_all_heads(states: torch.Tensor, group: ProcessGroup) -> torch.Tensor:
    """rows x width x heads/P x size of all tokens -> rows x width/P x heads x size of all heads."""
    rows, width, heads, size = states.shape
    parts = group.size()
    sent = states.view(rows, parts, width // parts, heads, size).permute(1, 0, 2, 3, 4)
    received = exchange(sent, group)  # by sending rank, which is the order of heads
    return received.permute(1, 2, 0, 3, 4).reshape(rows, width // parts, parts * heads, size)


def exchange(states: torch.Tensor, group: ProcessGroup) -> torch.Tensor:
    """All-to-all over dimension 0, which has a slice for each rank; its gradient goes back the same way."""
    result: torch.Tensor = _Exchange.apply(states, group)  # type: ignore[no-untyped-call]
    return result


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, group: ProcessGroup) -> torch.Tensor:
        ctx.group = group
        return _sent(states, group)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        # The exchange is its own inverse, and so its own transpose.
        return _sent(grads[0], ctx.group), None


def _sent(states: torch.Tensor, group: ProcessGroup) -> torch.Tensor:
    received = torch.empty_like(states, memory_format=torch.contiguous_format)
    distributed.all_to_all_single(received, states.contiguous(), group=group)
    return received
