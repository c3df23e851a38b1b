"""Schemas of supervised fine-tuning: optimiser, learning rate, batches, validation and adapters."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from micota.config.curriculum import CurriculumConfig
from micota.config.fields import choice, fraction, non_negative, one_of, part, plain, positive, where
from micota.config.optimizers import OPTIMIZERS
from micota.config.rows import RowsConfig
from micota.config.schedules import SCHEDULES

OTHER = "other"  # the entry of by_generator for all generators that have none
EPOCHS = "Passes over the examples, also a part of one, as 0.5."
WITH_EPOCHS = ("max_steps=null", "max_flops=null")
ALL_LINEAR = "all-linear"
BETA = "a number from 0 to below 1"


def is_beta(value: float) -> bool:
    """Whether a value can be the decay of a moving average."""
    return 0 <= value < 1


def are_patterns(values: Iterable[str]) -> bool:
    """Whether all values are regular expressions, as plain names are."""
    try:
        return all(bool(value) and re.compile(value) is not None for value in values)
    except re.error:
        return False


def is_at(pattern: str, name: str) -> bool:
    """Whether a full name ends with the name ``pattern``, or is matched whole by the regular expression."""
    return f".{name}".endswith(f".{pattern}") or re.fullmatch(pattern, name) is not None


def _default(schema: type[Any], name: str) -> Any:
    return next(item.default for item in fields(schema) if item.name == name)


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
        "a list of names of linear layers or of regular expressions of their full names, or [all-linear]",
        lambda value: bool(value) and are_patterns(value),
        default_factory=lambda: [ALL_LINEAR],
        about="The linear layers with adapters, in any order: names, as q_proj; ends of full names, as mlp.up_proj; "
        "regular expressions of full names; all-linear: all but the output layer.",
        results=True,
    )
    rslora: bool = plain(
        False,
        about="true: adapters are scaled by alpha over the root of the rank (rsLoRA, arXiv 2312.03732).",
        results=True,
        added=True,
    )
    dora: bool = plain(
        False,
        about="true: the lengths of the rows of adapted weights are trained apart from their directions (DoRA, arXiv "
        "2402.09353).",
        results=True,
        added=True,
    )

    def covers(self, name: str) -> bool:
        """Whether the linear layer of this full name, as ``model.layers.0.mlp.up_proj``, has an adapter."""
        return any(target == ALL_LINEAR or is_at(target, name) for target in self.targets)

    def conflicts(self) -> Iterator[str]:
        for item in fields(self):
            value, default = getattr(self, item.name), getattr(LoraConfig(), item.name)
            if self.r is None and value != default:
                yield f"{item.name}={value} without a rank; accepted: r above 0 with it, or neither"


@dataclass(kw_only=True)
class BestConfig:
    """Which weights are written: those after the last step, or those of the best validation."""

    by: str = choice(
        "none",
        "loss",
        "accuracy",
        default="none",
        about="The weights that are written: those with the lowest validation loss, or those that give the largest "
        "share of validation tokens the highest probability; none: those after the last step.",
        results=True,
        added=True,
    )
    every: int | None = positive(
        None,
        about="The steps between the validations that are compared; null: at the end of each epoch.",
        unit="steps",
        results=True,
        added=True,
    )
    patience: int | None = positive(
        None,
        about="Training ends after this many of these validations in a row without a better one; null: never early.",
        unit="validations",
        results=True,
        added=True,
    )
    min_change: float = non_negative(
        0.0, about="A validation is better if it is better by more than this.", results=True, added=True
    )

    def conflicts(self) -> Iterator[str]:
        for item in fields(self):
            value = getattr(self, item.name)
            if self.by == "none" and value != item.default:
                yield f"{item.name}={value} with by=none; accepted: by=loss or by=accuracy with it"


@dataclass(kw_only=True)
class SftConfig:
    """Supervised fine-tuning."""

    learning_rate: float = positive(about="The learning rate after warm-up, where it is highest.", results=True)
    batch_size: int = positive(about="Examples of one optimiser step, over all devices.", unit="examples", results=True)
    epochs: float = positive(about=EPOCHS, results=True, counts_with=WITH_EPOCHS)
    max_steps: int | None = positive(
        None,
        about="The number of optimiser steps, in place of epochs: an epoch may end early, and more may begin; null: as "
        "many as epochs has.",
        unit="steps",
        results=True,
        added=True,
    )
    max_flops: float | None = positive(
        None,
        about="Floating-point operations of training, of the teacher and of answers that the student samples, in place "
        "of epochs. The step that uses them up is the last, and the learning rate follows the share that is used; "
        "null: as many steps as epochs has.",
        unit="FLOPs",
        results=True,
        added=True,
    )
    schedule: str = one_of(
        SCHEDULES,
        default="cosine",
        about="How the learning rate changes after warm-up; stable_decay: constant, then linear over the last "
        "decay_ratio of the steps.",
        results=True,
        added=True,
    )
    min_learning_rate_ratio: float = fraction(
        0.0,
        about="The learning rate falls to this share of the highest.",
        results=True,
        added=True,
    )
    decay_ratio: float = where(
        "above 0 and at most 1",
        lambda value: 0 < value <= 1,
        0.2,
        about="The share of the steps after warm-up in which the learning rate of stable_decay falls.",
        results=True,
        added=True,
    )
    warmup_ratio: float = fraction(
        0.0, about="The share of steps in which the learning rate rises from 0.", results=True
    )
    warmup_steps: int | None = non_negative(
        None,
        about="The steps in which the learning rate rises from 0, in place of warmup_ratio=0; null: as warmup_ratio.",
        unit="steps",
        results=True,
        added=True,
    )
    beta1: float = where(BETA, is_beta, 0.9, about="The decay of AdamW's mean of gradients.", results=True, added=True)
    beta2: float = where(
        BETA, is_beta, 0.999, about="The decay of AdamW's mean of squared gradients.", results=True, added=True
    )
    epsilon: float = positive(
        1e-8, about="What AdamW adds to the root of that mean before it divides by it.", results=True, added=True
    )
    optimizer: str = one_of(
        OPTIMIZERS,
        default="adamw",
        about="AdamW with moments in the type of the weights, in 8 bits, or in pages that leave a full GPU. All but "
        "the first need the package bitsandbytes.",
        results=True,
        added=True,
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
        about="The share of problems whose examples are not trained on, for the validation loss.",
        results=True,
    )
    validation: RowsConfig = part(
        RowsConfig,
        about="Rows for validation, of a file or a set of the hub, with the keys of a recipe that reads rows; path "
        "null: none, unless validation_fraction is above 0.",
        added=True,
    )
    best: BestConfig = part(BestConfig, about="The weights that are written, and an early end of training.", added=True)
    curriculum: CurriculumConfig = part(CurriculumConfig, about="Which examples come when in training.", added=True)
    export_dtype: str = choice(
        "auto",
        "float32",
        "bfloat16",
        "float16",
        default="auto",
        about="The type of the weights that are written; auto: that of the model before fine-tuning.",
        results=True,
    )
    freeze: list[str] = where(
        "a list of names of weights or modules, or of regular expressions of full names of weights",
        are_patterns,
        default_factory=list,
        about="The weights that are not trained: those of modules, as model.embed_tokens or model.layers.0, or those "
        "whose full name a regular expression matches.",
        results=True,
        added=True,
    )
    lora: LoraConfig | None = part(LoraConfig, about="Adapters instead of full fine-tuning.")

    def conflicts(self) -> Iterator[str]:
        if self.warmup_steps is not None and self.warmup_ratio:
            yield (
                f"warmup_steps={self.warmup_steps} with warmup_ratio={self.warmup_ratio:g}; accepted: warmup_ratio=0 "
                "with it, or warmup_steps=null"
            )
        if self.max_flops is not None and (self.max_steps is not None or self.warmup_steps is not None):
            other = "max_steps" if self.max_steps is not None else "warmup_steps"
            yield f"max_flops={self.max_flops:g} with {other}, which counts steps; accepted: {other}=null with it"
        has_rows = self.validation.path is not None
        if has_rows and self.validation_fraction:
            yield (
                f"validation.path={self.validation.path} with validation_fraction={self.validation_fraction:g}; "
                "accepted: one of them, as validation_fraction=0"
            )
        if self.best.by != "none" and not self.validation_fraction and not has_rows:
            yield (
                f"best.by={self.best.by} without validation examples; accepted: validation_fraction above 0 or "
                "validation.path with it"
            )
        if self.freeze and self.lora is not None and self.lora.r is not None:
            yield (
                f"freeze={self.freeze} with lora.r={self.lora.r}, which trains adapters alone; accepted: freeze=[], or "
                "lora.r=null"
            )
        schedule = SCHEDULES.get(self.schedule)
        if schedule is None:
            return  # its check names it
        if self.min_learning_rate_ratio and not schedule.falls:
            yield (
                f"min_learning_rate_ratio={self.min_learning_rate_ratio:g} with schedule={schedule.name}, which does "
                f"not fall; accepted: 0, or schedule={', '.join(n for n, s in SCHEDULES.items() if s.falls)}"
            )
        if not schedule.has_decay and self.decay_ratio != _default(SftConfig, "decay_ratio"):
            owners = ", ".join(name for name, entry in SCHEDULES.items() if entry.has_decay)
            usual = _default(SftConfig, "decay_ratio")
            yield (
                f"decay_ratio={self.decay_ratio:g} is of schedule={owners}, and this is {schedule.name}; accepted: "
                f"{usual:g}, or schedule={owners} with it"
            )

    def settled(self) -> SftConfig:
        """Return the settings in one spelling, so that equal settings compare equal: ``lora`` is null without a rank,
        else its alpha is set and its targets are sorted; epochs that do not count are 1, and a whole number of them has
        no point; rows for validation are an artifact, and no settings."""
        epochs = 1 if self.max_steps is not None or self.max_flops is not None else self.epochs
        whole = replace(
            self,
            validation=RowsConfig(),
            epochs=int(epochs) if epochs == int(epochs) else epochs,
            freeze=sorted(set(self.freeze)),
        )
        if self.lora is None or self.lora.r is None:
            return replace(whole, lora=None)
        alpha, targets = self.lora.alpha or 2 * self.lora.r, sorted(set(self.lora.targets))
        return replace(whole, lora=replace(self.lora, alpha=alpha, targets=targets))


@dataclass(kw_only=True)
class GeneratorSftConfig:
    """Hyper-parameters for the data of one generator."""

    learning_rate: float = positive(about="The learning rate after warm-up, where it is highest.", results=True)
    batch_size: int = positive(about="Examples of one optimiser step, over all devices.", unit="examples", results=True)
    epochs: float = positive(about=EPOCHS, results=True)


@dataclass(kw_only=True)
class ModelSftConfig(SftConfig):
    """The fine-tuning of a model. What is null follows the generator of the data; a value set here wins."""

    learning_rate: float | None = positive(  # type: ignore[assignment]
        None, about="The learning rate after warm-up, where it is highest; null: as in by_generator.", results=True
    )
    batch_size: int | None = positive(  # type: ignore[assignment]
        None,
        about="Examples of one optimiser step, over all devices; null: as in by_generator.",
        unit="examples",
        results=True,
    )
    epochs: float | None = positive(  # type: ignore[assignment]
        None,
        about="Passes over the examples, also a part of one; null: as in by_generator.",
        results=True,
        counts_with=WITH_EPOCHS,
    )
    by_generator: dict[str, GeneratorSftConfig] = part(
        default_factory=dict,
        about="Hyper-parameters by the path of a model that generated the data, itself or through the models that were "
        f"tuned on its data. The first that fits counts, {OTHER} if none does.",
    )

    def conflicts(self) -> Iterator[str]:
        yield from super().conflicts()
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
