"""Activation checkpointing: what the backward pass needs is kept, or computed again from what is kept.

``selective`` keeps the results of matrix products and of attention, which are most of the work of a layer, and computes
again what lies between them (norms, activation functions, rotations), which is most of its memory and hardly any of its
work. ``full`` keeps the input of each layer alone (Chen et al. 2016, arXiv 1604.06174), for a third more of work.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

# Batched products are not among them: those are the scores of eager attention, length x length.
PRODUCTS = ("aten.mm", "aten.addmm", "aten.linear", "aten._grouped_mm")
ATTENTION = ("scaled_dot_product", "flash_attn", "varlen_attn", "flex_attention")


def recompute(model: Any, kind: str) -> None:
    """Set a Hugging Face model up for ``kind``: none, selective or full. Results are the same to the bit."""
    if kind == "none":
        return
    options: dict[str, Any] = {"use_reentrant": False}
    if kind == "selective":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    model.gradient_checkpointing_enable(options)


def _policy(_context: Any, operator: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    name = str(operator)  # as aten.mm.default
    keeps = name.rpartition(".")[0] in PRODUCTS or any(part in name for part in ATTENTION)
    return CheckpointPolicy.MUST_SAVE if keeps else CheckpointPolicy.PREFER_RECOMPUTE
