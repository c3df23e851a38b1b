"""The sizes of a model on which costs of training depend, and the floating-point operations of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from micota.config import LoraConfig, SftConfig, ShapeConfig
from micota.config.optimizers import OPTIMIZERS


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of a model on which costs depend; weights are counted in elements."""

    weights: int
    trained: int
    linear: int  # weights of linear layers without the output head
    head: int  # weights of the output head; ``outside`` is this and the embedding, all outside of the layers
    outside: int
    num_layers: int
    hidden: int
    intermediate: int
    attention: int  # heads x size of a head
    key_value: int = 0  # heads of keys (and of values) x size of a head
    moment_bytes: int = 4  # of one of AdamW's two moments of a weight

    @classmethod
    def of(cls, model: Any) -> Shape:
        """The shape of a Hugging Face model, which may be on the meta device."""
        import torch

        config = model.config.get_text_config()
        head = model.get_output_embeddings().weight
        outside = {id(weight): weight.numel() for weight in (head, model.get_input_embeddings().weight)}
        linear = sum(
            m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear) and m.weight is not head
        )
        heads = config.num_attention_heads
        return cls(
            weights=sum(weight.numel() for weight in model.parameters()),
            trained=sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
            linear=linear,
            head=head.numel(),
            outside=sum(outside.values()),
            num_layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            intermediate=getattr(config, "intermediate_size", 4 * config.hidden_size),
            attention=heads * (getattr(config, "head_dim", None) or config.hidden_size // heads),
            key_value=(getattr(config, "num_key_value_heads", None) or heads)
            * (getattr(config, "head_dim", None) or config.hidden_size // heads),
        )

    @classmethod
    def from_config(cls, shape: ShapeConfig, lora: LoraConfig | None = None) -> Shape:
        """The shape of a decoder with gated MLPs from its sizes alone, without torch. Biases and gains of norms, less
        than a thousandth of the weights, are those of Qwen2.

        Args:
            lora: the adapters that are trained instead of all weights.
        """
        head_dim = shape.head_dim or shape.hidden // shape.heads
        attention, key_value = shape.heads * head_dim, shape.kv_heads * head_dim
        sides = {  # input and output of each linear layer
            "q_proj": (shape.hidden, attention), "k_proj": (shape.hidden, key_value),
            "v_proj": (shape.hidden, key_value), "o_proj": (attention, shape.hidden),
            "gate_proj": (shape.hidden, shape.intermediate), "up_proj": (shape.hidden, shape.intermediate),
            "down_proj": (shape.intermediate, shape.hidden),
        }  # fmt: skip
        linear = shape.layers * sum(inner * outer for inner, outer in sides.values())
        vectors = shape.layers * (2 * shape.hidden + attention + 2 * key_value) + shape.hidden
        head = shape.vocab * shape.hidden
        outside = head if shape.tied else 2 * head
        weights = linear + vectors + outside
        trained = weights
        if lora is not None and lora.r is not None:
            trained = sum(
                lora.r * (inner + outer) + outer * lora.dora  # DoRA trains a length for each row
                for layer in range(shape.layers)
                for name, (inner, outer) in sides.items()
                if lora.covers(f"model.layers.{layer}.{'self_attn' if name[0] in 'qkvo' else 'mlp'}.{name}")
            )
            weights += trained
        return cls(
            weights=weights,
            trained=trained,
            linear=linear,
            head=head,
            outside=outside,
            num_layers=shape.layers,
            hidden=shape.hidden,
            intermediate=shape.intermediate,
            attention=attention,
            key_value=key_value,
        )

    def trained_by(self, sft: SftConfig) -> Shape:
        """The shape with the moments of the optimiser of ``sft``. Paged ones leave the device where it is full."""
        kind = OPTIMIZERS[sft.optimizer]
        return replace(self, moment_bytes=0 if kind.is_paged else kind.moment_bytes)

    def flops(self, lengths: Sequence[int], num_supervised: int) -> float:
        """Floating-point operations of a step over sequences of these lengths, forward and backward.

        Two per weight and token forward, four backward (two if weights are frozen), as in PaLM (arXiv 2204.02311,
        appendix B). Two terms differ: the output head counts supervised tokens only, and causal attention half of the
        matrix. Operations that activation checkpointing repeats do not count.
        """
        # A frozen weight has no gradient and only passes one on: 2 forward, 2 backward.
        factor = 6 if self.trained > self.weights / 2 else 4
        dense = self.linear * sum(lengths) + self.head * num_supervised
        # q k^T and the product with v: 2 x 2 length^2 width forward, twice that backward, half of it as it is causal.
        attention = self.num_layers * self.attention * sum(length**2 for length in lengths)
        return float(factor * dense + 6 * attention)
