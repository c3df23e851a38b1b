"""Activation checkpointing: the backward pass reads activations from memory, or computes them again.

``selective`` keeps the results of matrix products and of attention, which are most of the work of a layer. It computes
the rest again (norms, activation functions, rotations), which is most of the memory and little of the work. ``full``
keeps only the input of each layer (Chen et al. 2016, arXiv 1604.06174), at the cost of a third more work.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from micota.sft.kinds import mixture_of
from micota.sft.memory import kind_for
from micota.sft.shape import THIN

# Without batched products: those are the scores of eager attention, length x length.
# The places of their two factors.
PRODUCTS = {"aten.mm": (0, 1), "aten.addmm": (1, 2), "aten.linear": (0, 1), "aten._grouped_mm": (0, 1)}
ATTENTION = ("scaled_dot_product", "flash_attn", "varlen_attn", "flex_attention")


class ActivationCheckpointing:
    """Sets the layers of a Hugging Face model up for a micro-batch. Results do not change by a bit."""

    def __init__(self, model: Any, most_tokens: Mapping[str, int], *, compiled: bool = False) -> None:
        """``most_tokens``: see :func:`micota.sft.memory.kind_for`. In ``compiled`` layers the compiler itself does what
        ``selective`` does."""
        self._most_tokens = most_tokens
        self._without = ("none", "selective") if compiled else ("none",)
        if any(mixture_of(kind).heavy not in self._without for kind in most_tokens):
            model.gradient_checkpointing_enable({"use_reentrant": False})
        able = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]
        # What contains layers (the model itself) has the switch too; what is inside them is computed with them.
        self._outer = [module for module in able if any(other in able for other in [*module.modules()][1:])]
        self._layers = [module for module in able if module not in self._outer]

    def __call__(self, num_tokens: int) -> None:
        """Before the forward pass over a micro-batch of ``num_tokens`` positions."""
        mixture = mixture_of(kind_for(num_tokens, self._most_tokens))
        for module in self._outer:
            self._set(module, mixture.heavy)
        num_heavy = mixture.num_heavy(len(self._layers))
        for index, layer in enumerate(self._layers):
            self._set(layer, mixture.heavy if index < num_heavy else mixture.light)

    def _set(self, module: Any, kind: str) -> None:
        module.gradient_checkpointing = kind not in self._without
        module._gradient_checkpointing_func = _FUNCTIONS[kind]


def _policy(_context: Any, operator: Any, *factors: Any, **__: Any) -> CheckpointPolicy:
    name = str(operator)  # as aten.mm.default
    keeps = _is_costly(name.rpartition(".")[0], factors) or any(part in name for part in ATTENTION)
    return CheckpointPolicy.MUST_SAVE if keeps else CheckpointPolicy.PREFER_RECOMPUTE


def _is_costly(product: str, factors: tuple[Any, ...]) -> bool:
    """Whether an operator is a product that costs more than it takes to keep. That with the second matrix of an adapter
    is as large as the layer's own, of which it is a hundredth of the work."""
    if product not in PRODUCTS:
        return False
    left, right = (factors[place] for place in PRODUCTS[product])
    inner = left.shape[-1]
    outer = right.numel() // inner if right.ndim == 2 else right.shape[-1]  # grouped: a matrix for each expert
    return bool(THIN * inner >= outer)


_FUNCTIONS = {
    "none": None,
    "selective": partial(
        checkpoint, use_reentrant=False, context_fn=partial(create_selective_checkpoint_contexts, _policy)
    ),
    "full": partial(checkpoint, use_reentrant=False),
}
