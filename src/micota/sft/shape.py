"""The sizes of a model on which costs of training depend, and the floating-point operations of a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from micota.config import LoraConfig, SftConfig, ShapeConfig
from micota.config.optimizers import OPTIMIZERS
from micota.graph.specs import Distillation
from micota.sft import layout

ADAPTER = "default"  # peft's name of the first adapter
THIN = 8  # selective checkpointing computes products again that sum over fewer numbers than this part of their results


@dataclass(frozen=True)
class Answers:
    """Answers that the student samples together in training: ``rows`` of at most ``most_tokens``, after prompts of at
    most ``prompt_tokens`` (0: not known yet)."""

    rows: int
    most_tokens: int
    prompt_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of a model on which costs depend; weights are counted in elements."""

    weights: int
    trained: int
    linear: int  # weights of linear layers without the output head, and without adapters
    head: int  # weights of the output head; ``outside`` is this and the embedding, all outside of the layers
    outside: int
    num_layers: int
    hidden: int
    intermediate: int
    heads: int
    attention: int  # heads x size of a head
    key_value: int = 0  # heads of keys (and of values) x size of a head
    moment_bytes: int = 4  # of one of AdamW's two moments of a weight
    adapters: int = 0  # weights of adapters, which are trained in float32
    # Numbers of a token that all adapters keep for the backward pass, beside those of layers, by kind of checkpointing.
    adapters_keep: Mapping[str, float] = field(default_factory=dict)
    trains_head: bool = True  # whether the output head has a gradient
    teacher: Shape | None = None  # of a distillation, which is whole on each device
    compared: int = 0  # tensors of the size of a chunk of logits that the loss of a distillation holds, by FakeTensor
    answers: Answers | None = None  # of on-policy distillation

    @classmethod
    def of(cls, model: Any) -> Shape:
        """The shape of a Hugging Face model, which may be on the meta device."""
        import torch

        config = model.config.get_text_config()
        head = model.get_output_embeddings().weight
        outside = {id(weight): weight.numel() for weight in (head, model.get_input_embeddings().weight)}
        linear = sum(
            m.weight.numel()
            for name, m in model.named_modules()
            if isinstance(m, torch.nn.Linear) and m.weight is not head and ".lora_" not in name
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
            heads=heads,
            attention=heads * (getattr(config, "head_dim", None) or config.hidden_size // heads),
            key_value=(getattr(config, "num_key_value_heads", None) or heads)
            * (getattr(config, "head_dim", None) or config.hidden_size // heads),
            adapters=sum(weight.numel() for name, weight in model.named_parameters() if ".lora_" in name),
            adapters_keep=_sums(
                kept_by_adapter(m.in_features, m.out_features, m.r[ADAPTER], _dropout_of(m), m.use_dora[ADAPTER])
                for m in model.modules()
                if hasattr(m, "lora_A")
            ),
            trains_head=head.requires_grad,
        )

    @classmethod
    def from_config(cls, shape: ShapeConfig, lora: LoraConfig | None = None, freeze: Sequence[str] = ()) -> Shape:
        """The shape of a decoder with gated MLPs from its sizes alone, without torch.

        Args:
            lora: the adapters that are trained instead of all weights.
            freeze: patterns of weights that are not trained, as in ``sft.freeze``.
        """
        head_dim = shape.head_dim or shape.hidden // shape.heads
        weights, head = sum(size for _, size in layout.weights(shape)), shape.vocab * shape.hidden
        has_adapters, adapters = lora is not None and lora.r is not None, 0
        kept: dict[str, float] = {}
        if lora is not None and lora.r is not None:
            adapted = [(inner, outer) for name, inner, outer in layout.linear_layers(shape) if lora.covers(name)]
            # DoRA trains a length for each row.
            adapters = sum(lora.r * (inner + outer) + outer * lora.dora for inner, outer in adapted)
            kept = _sums(kept_by_adapter(*sides, lora.r, lora.dropout, lora.dora) for sides in adapted)
        return cls(
            weights=weights + adapters,
            trained=adapters if has_adapters else layout.num_trained(shape, freeze),
            linear=sum(inner * outer for _, inner, outer in layout.linear_layers(shape)),
            head=head,
            outside=head if shape.tied else 2 * head,
            num_layers=shape.layers,
            hidden=shape.hidden,
            intermediate=shape.intermediate,
            heads=shape.heads,
            attention=shape.heads * head_dim,
            key_value=shape.kv_heads * head_dim,
            adapters=adapters,
            adapters_keep=kept,
            trains_head=not has_adapters and layout.trains_head(shape, freeze),
        )

    @classmethod
    def to_train(cls, shape: ShapeConfig, sft: SftConfig) -> Shape:
        """The shape of a model by its sizes, with what ``sft`` trains of it."""
        return cls.from_config(shape, sft.lora, sft.freeze).trained_by(sft)

    def trained_by(self, sft: SftConfig) -> Shape:
        """The shape with the moments of the optimiser of ``sft``. Paged ones leave the device where it is full."""
        kind = OPTIMIZERS[sft.optimizer]
        return replace(self, moment_bytes=0 if kind.is_paged else kind.moment_bytes)

    def taught_by(
        self, teacher: Shape | None, objective: Distillation | None, rows: int, prompt_tokens: int = 0
    ) -> Shape:
        """The shape beside its teacher (None: not known), with what ``objective`` compares and, if it does, samples:
        ``rows`` and ``prompt_tokens`` are as of :class:`Answers`."""
        if objective is None:
            return self
        sampling = objective.sampling
        answers = None if sampling is None else Answers(rows, sampling.max_tokens, prompt_tokens)
        compared = 7 if objective.top_k is not None else 10 if objective.divergence == "jsd" else 8
        return replace(self, teacher=teacher, compared=compared, answers=answers)

    def forward_flops(self, lengths: Sequence[float], num_supervised: float) -> float:
        """Floating-point operations of a forward pass over sequences of these lengths, whose output head sees
        ``num_supervised`` tokens. With a cache of keys and values, generation of these tokens takes as many."""
        dense = self.linear * sum(lengths) + self.head * num_supervised
        attention = self.num_layers * self.attention * sum(length**2 for length in lengths)
        return float(2 * dense + 2 * (attention + self.adapters * sum(lengths)))

    def flops(self, lengths: Sequence[int], num_supervised: int) -> float:
        """Floating-point operations of a step over sequences of these lengths, forward and backward.

        Two per weight and token forward, four backward (two if weights are frozen), as in PaLM (arXiv 2204.02311,
        appendix B). Two terms differ: the output head counts supervised tokens only, and causal attention half of the
        matrix. Operations that activation checkpointing repeats do not count.
        """
        # A frozen weight has no gradient and only passes one on: 2 forward, 2 backward.
        factor = 4 + 2 * (self.trained - self.adapters) / (self.weights - self.adapters)
        dense = self.linear * sum(lengths) + self.head * num_supervised
        # q k^T and the product with v: 2 x 2 length^2 width forward, twice that backward, half of it as it is causal.
        attention = self.num_layers * self.attention * sum(length**2 for length in lengths)
        return float(factor * dense + 6 * (attention + self.adapters * sum(lengths)))


def kept_by_adapter(inner: int, outer: int, rank: int, dropout: float, dora: bool) -> dict[str, float]:
    """Numbers of a token by kind of activation checkpointing. none: the input after dropout, with the mask in a byte
    each, minus what else would be kept of it; for DoRA, which trains lengths, its result and that of the layer.
    selective: the results of costly products, of which DoRA with dropout has one more."""
    is_kept = THIN * rank >= outer
    return {
        "none": 1.25 * inner * (dropout > 0) + 2 * outer * dora,
        "selective": rank + outer * (is_kept + (dora and dropout > 0)),
    }


def _sums(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            totals[name] = totals.get(name, 0) + value
    return totals


def _dropout_of(module: Any) -> float:
    """The dropout of an adapter of peft, which has none at 0."""
    return float(getattr(module.lora_dropout[ADAPTER], "p", 0.0))
