"""Schemas of supervised fine-tuning: optimiser, learning rate, batches, validation and adapters."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields, replace

from micota.config.fields import choice, fraction, non_negative, part, positive, where

OTHER = "other"  # the entry of by_generator for all generators that have none


@dataclass(kw_only=True)
class LoraConfig:
    """Low-rank adapters (arXiv 2106.09685), named as in peft."""

    # Null stands for none and for a default, since nothing below a null can be set on the command line.
    r: int | None = positive(
        None, about="The rank of the adapters; null: full fine-tuning, without adapters.", results=True
    )
    alpha: int | None = positive(
        None, about="Adapters are scaled by alpha over the rank; null: twice the rank.", results=True
    )
    dropout: float = where(
        "a number from 0 to below 1",
        lambda value: 0 <= value < 1,
        0.0,
        about="The share of an adapter's inputs that are set to 0 in training.",
        results=True,
    )
    targets: list[str] = where(
        "a list of names of linear layers, or [all-linear]",
        bool,
        default_factory=lambda: ["all-linear"],
        about="The linear layers with adapters, in any order; all-linear: all but the output layer.",
        results=True,
    )

    def conflicts(self) -> Iterator[str]:
        for item in fields(self):
            value, default = getattr(self, item.name), getattr(LoraConfig(), item.name)
            if self.r is None and value != default:
                yield f"{item.name}={value} without a rank; accepted: r above 0 with it, or neither"


@dataclass(kw_only=True)
class SftConfig:
    """Supervised fine-tuning."""

    learning_rate: float = positive(about="The learning rate after warm-up; it then falls to 0.", results=True)
    batch_size: int = positive(about="Examples of one optimiser step, over all devices.", unit="examples", results=True)
    epochs: int = positive(about="Passes over the examples.", results=True)
    warmup_ratio: float = fraction(
        0.0, about="The share of steps in which the learning rate rises from 0.", results=True
    )
    weight_decay: float = non_negative(0.01, about="The decoupled weight decay of AdamW.", results=True)
    max_grad_norm: float = positive(1.0, about="Gradients of a larger norm are scaled down to this norm.", results=True)
    max_tokens: int = positive(
        16384,
        about="The most tokens of an example: prompt, completion and end of sequence.",
        unit="tokens",
        results=True,
    )
    overlong: str = choice(
        "drop",
        "cut",
        default="drop",
        about="Examples of more than max_tokens tokens are dropped, or cut at the end, as in the papers' published "
        "code. One that is cut has no answer and no end of sequence.",
        results=True,
    )
    batch_of: str = choice(
        "examples",
        "packs",
        default="examples",
        about="What batch_size counts: examples, or packs of examples of max_tokens tokens together, as in the "
        "published code of Mix Distillation.",
        results=True,
    )
    validation_fraction: float = where(
        "a number from 0 to below 1",
        lambda value: 0 <= value < 1,
        0.0,
        about="The share of examples that are not trained on, for the validation loss.",
        results=True,
    )
    export_dtype: str = choice(
        "auto",
        "float32",
        "bfloat16",
        "float16",
        default="auto",
        about="The type of the weights that are written; auto: that of the model before fine-tuning.",
        results=True,
    )
    lora: LoraConfig | None = part(LoraConfig, about="Adapters instead of full fine-tuning.")

    def settled(self) -> SftConfig:
        """Return the settings in one spelling, so that equal settings compare equal: ``lora`` is null without a rank,
        else its alpha is set and its targets are sorted."""
        if self.lora is None or self.lora.r is None:
            return replace(self, lora=None)
        alpha, targets = self.lora.alpha or 2 * self.lora.r, sorted(set(self.lora.targets))
        return replace(self, lora=replace(self.lora, alpha=alpha, targets=targets))


@dataclass(kw_only=True)
class GeneratorSftConfig:
    """Hyper-parameters for the data of one generator."""

    learning_rate: float = positive(about="The learning rate after warm-up.", results=True)
    batch_size: int = positive(about="Examples of one optimiser step, over all devices.", unit="examples", results=True)
    epochs: int = positive(about="Passes over the examples.", results=True)


@dataclass(kw_only=True)
class ModelSftConfig(SftConfig):
    """The fine-tuning of a model. What is null follows the generator of the data; a value set here wins."""

    learning_rate: float | None = positive(  # type: ignore[assignment]
        None, about="The learning rate after warm-up; it then falls to 0. Null: as in by_generator.", results=True
    )
    batch_size: int | None = positive(  # type: ignore[assignment]
        None,
        about="Examples of one optimiser step, over all devices; null: as in by_generator.",
        unit="examples",
        results=True,
    )
    epochs: int | None = positive(  # type: ignore[assignment]
        None, about="Passes over the examples; null: as in by_generator.", results=True
    )
    by_generator: dict[str, GeneratorSftConfig] = part(
        default_factory=dict,
        about="Hyper-parameters by the path of a model that generated the data, itself or through the models that were "
        f"tuned on its data. The first that fits counts, {OTHER} if none does.",
    )

    def conflicts(self) -> Iterator[str]:
        for name in _BY_GENERATOR:
            if getattr(self, name) is None and OTHER not in self.by_generator:
                yield f"{name} is not set; accepted: a number above 0, or by_generator.{OTHER}"

    def settled(self, generators: Collection[str] = ()) -> SftConfig:
        """Return the settings for data of these generators (paths), in one spelling."""
        fitting = next((entry for path, entry in self.by_generator.items() if path in generators), None)
        table = fitting or self.by_generator.get(OTHER)
        values = {item.name: getattr(self, item.name) for item in fields(SftConfig)}
        for name in _BY_GENERATOR:
            if values[name] is None:
                assert table is not None, "conflicts() lets nothing through that is not set"
                values[name] = getattr(table, name)
        return SftConfig(**values).settled()


_BY_GENERATOR = tuple(item.name for item in fields(GeneratorSftConfig))
