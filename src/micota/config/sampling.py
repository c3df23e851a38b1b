"""The schema of sampling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from micota.config.fields import positive, where

# Below 0.01 vLLM raises it to 0.01, and above 100 all tokens are as good as equal.
TEMPERATURES = "0 (greedy), or a number from 0.01 to 100"


def is_temperature(value: float) -> bool:
    """Whether all engines sample at this temperature as it is."""
    return value == 0 or 0.01 <= value <= 100


@dataclass(kw_only=True)
class SamplingConfig:
    """How completions are sampled from a model."""

    temperature: float = where(
        TEMPERATURES,
        is_temperature,
        0.0,
        about="The logits are divided by it before a token is sampled; 0 is greedy decoding.",
        results=True,
    )
    top_p: float = where(
        "a number from 0.0001 to 1",
        lambda value: 1e-4 <= value <= 1,
        1.0,
        about="Tokens are sampled from the smallest set with this share of the probability.",
        results=True,
        counts_with=("temperature!=0",),
    )
    max_tokens: int = positive(16384, about="The most new tokens of a completion.", unit="tokens", results=True)
    max_thought_tokens: int | None = positive(
        None,
        about="A thought of so many tokens is ended by the closing tag, and the model goes on with its answer (budget "
        "forcing, arXiv 2501.19393); null: thoughts end by themselves.",
        unit="tokens",
        results=True,
        added=True,
    )
    num_samples: int = positive(1, about="Completions for each problem.", results=True)

    def settled(self) -> SamplingConfig:
        """Return the settings with the default of ``top_p`` for greedy decoding, which it does not change."""
        return replace(self, top_p=1.0) if self.temperature == 0 else self

    def conflicts(self) -> Iterator[str]:
        if self.max_thought_tokens is not None and self.max_thought_tokens >= self.max_tokens:
            yield (
                f"max_thought_tokens={self.max_thought_tokens} with max_tokens={self.max_tokens}, which leaves no "
                "answer; accepted: fewer"
            )
        if self.num_samples > 1 and self.temperature == 0:
            yield (
                f"num_samples={self.num_samples} with temperature=0 repeats one answer; accepted: num_samples=1, or "
                "temperature above 0"
            )
