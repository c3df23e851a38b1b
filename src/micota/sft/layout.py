"""The weights of a decoder with gated MLPs by name and size, for a model that is known by its sizes alone. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from micota.config import ShapeConfig
from micota.sft.freezing import matches

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def linear_layers(shape: ShapeConfig) -> Iterator[tuple[str, int, int]]:
    """The full names of the linear layers without the output layer, with their inputs and outputs."""
    head_dim = shape.head_dim or shape.hidden // shape.heads
    attention, key_value = shape.heads * head_dim, shape.kv_heads * head_dim
    sides = {
        "self_attn.q_proj": (shape.hidden, attention), "self_attn.k_proj": (shape.hidden, key_value),
        "self_attn.v_proj": (shape.hidden, key_value), "self_attn.o_proj": (attention, shape.hidden),
        "mlp.gate_proj": (shape.hidden, shape.intermediate), "mlp.up_proj": (shape.hidden, shape.intermediate),
        "mlp.down_proj": (shape.intermediate, shape.hidden),
    }  # fmt: skip
    for layer in range(shape.layers):
        for name, (inner, outer) in sides.items():
            yield f"model.layers.{layer}.{name}", inner, outer


def weights(shape: ShapeConfig) -> Iterator[tuple[tuple[str, ...], int]]:
    """The names of each weight (two where embedding and output head are one) and its elements. Biases and gains of
    norms, less than a thousandth of all, are those of Qwen2."""
    table = shape.vocab * shape.hidden
    yield from [((EMBEDDING, HEAD), table)] if shape.tied else [((EMBEDDING,), table), ((HEAD,), table)]
    for name, inner, outer in linear_layers(shape):
        yield (f"{name}.weight",), inner * outer
        if name.rpartition(".")[2] in ("q_proj", "k_proj", "v_proj"):
            yield (f"{name}.bias",), outer
    for layer in range(shape.layers):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield (f"model.layers.{layer}.{norm}.weight",), shape.hidden
    yield ("model.norm.weight",), shape.hidden


def num_trained(shape: ShapeConfig, freeze: Sequence[str]) -> int:
    """The elements of the weights that ``sft.freeze`` leaves to train."""
    return sum(size for names, size in weights(shape) if not is_frozen(names, freeze))


def trains_head(shape: ShapeConfig, freeze: Sequence[str]) -> bool:
    """Whether the output head is among them."""
    return not is_frozen((EMBEDDING, HEAD) if shape.tied else (HEAD,), freeze)


def is_frozen(names: Sequence[str], freeze: Sequence[str]) -> bool:
    """Whether a pattern of ``sft.freeze`` matches a weight of these names."""
    return any(matches(pattern, name) for pattern in freeze for name in names)
