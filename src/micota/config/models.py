"""Schemas of models: where they are, how they write, how they are tuned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace

from micota.config.fields import fraction, non_negative, positive, slug, where


@dataclass(kw_only=True)
class SamplingConfig:
    """How completions are drawn from a model. ``max_tokens`` counts new tokens; temperature 0 is greedy."""

    temperature: float = non_negative(0.0)
    top_p: float = where("above 0 and at most 1", lambda value: 0 < value <= 1, 1.0)
    max_tokens: int = positive(16384)
    num_samples: int = positive(1)

    def conflicts(self) -> Iterator[str]:
        if self.num_samples > 1 and self.temperature == 0:
            yield f"num_samples={self.num_samples} with temperature=0 repeats one answer; set temperature above 0"


@dataclass(kw_only=True)
class ThinkingConfig:
    """The tags around what a model thinks before it answers (null: it does not). Whether the chat template writes the
    opening tag, so that it is not in the completion, is seen in the rendered prompt."""

    open: str | None = None
    close: str | None = None

    def conflicts(self) -> Iterator[str]:
        if bool(self.open) != bool(self.close):
            yield f"open={self.open!r}, close={self.close!r}; accepted: both tags, or neither"


@dataclass(kw_only=True)
class LoraConfig:
    """Low-rank adapters (arXiv 2106.09685), named as in peft; ``targets`` are names of linear layers, or all.

    ``r`` null is none, that is full fine-tuning, and ``alpha`` null twice ``r``. So they can be set on the command
    line, where nothing can be set below a null.
    """

    r: int | None = positive(None)
    alpha: int | None = positive(None)
    dropout: float = where("a number from 0 to below 1", lambda value: 0 <= value < 1, 0.0)
    targets: list[str] = where(
        "a list of names of linear layers, or [all-linear]", bool, default_factory=lambda: ["all-linear"]
    )

    def conflicts(self) -> Iterator[str]:
        for item in fields(self):
            value, default = getattr(self, item.name), getattr(LoraConfig(), item.name)
            if self.r is None and value != default:
                yield f"{item.name}={value} without a rank; accepted: r above 0 with it, or neither"


@dataclass(kw_only=True)
class SftConfig:
    """Supervised fine-tuning. Batch sizes count examples; ``max_tokens`` is prompt + completion + eos.

    ``validation_fraction`` is the share of examples that is held out, to watch the loss on.
    """

    learning_rate: float = positive()
    batch_size: int = positive()
    epochs: int = positive()
    warmup_ratio: float = fraction(0.0)
    weight_decay: float = non_negative(0.01)
    max_grad_norm: float = positive(1.0)
    max_tokens: int = positive(16384)
    validation_fraction: float = where("a number from 0 to below 1", lambda value: 0 <= value < 1, 0.0)
    lora: LoraConfig | None = field(default_factory=LoraConfig)

    def settled(self) -> SftConfig:
        """The same with ``lora`` null where no rank is given, and alpha given elsewhere: of both one spelling."""
        if self.lora is None or self.lora.r is None:
            return replace(self, lora=None)
        return replace(self, lora=replace(self.lora, alpha=self.lora.alpha or 2 * self.lora.r))


@dataclass(kw_only=True)
class ModelConfig:
    """One model: where it is, how it writes, and how it is tuned where a role needs that.

    ``path`` is a hub id, a folder, or ``bundled:NAME`` for a model shipped with the package.
    ``fingerprint`` is filled in for local folders, so that a changed folder is another model.
    """

    name: str = slug()
    path: str = where("a hub id, a folder or bundled:NAME", bool)
    revision: str | None = None
    fingerprint: str | None = None
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    thinking: ThinkingConfig = field(default_factory=ThinkingConfig)
    sft: SftConfig | None = None


@dataclass(kw_only=True)
class OtherModelConfig(ModelConfig):
    """A model that need not be there (``path`` null): any option of the group ``model``, or a folder or hub id. A
    dataclass and not null, since Hydra cannot set what is below a null from the command line."""

    name: str | None = None  # type: ignore[assignment]  # null: the last part of the path
    path: str | None = None  # type: ignore[assignment]
