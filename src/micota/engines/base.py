"""The protocol of engines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from micota.config import SamplingConfig
from micota.pretrained import load_config


@dataclass(frozen=True, kw_only=True)
class Request:
    """One sample to draw. ``seed`` makes it the same whatever is drawn beside it; ``done`` means that it is not wanted
    (an engine may need it all the same, to form the same batches as an undisturbed run)."""

    id: tuple[str, int]
    prompt_ids: list[int]
    seed: int
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class Output:
    """One finished sample. ``num_tokens`` counts generated tokens with eos; ``seconds`` is from its prompt on."""

    id: tuple[str, int]
    text: str
    finish_reason: str
    num_tokens: int
    seconds: float


class Engine(Protocol):
    """A model, loaded at the latest when it is first asked; what prompts need is there before."""

    tokenizer: Any
    context_tokens: int  # longest prompt + completion

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> Iterator[Output]:
        """Answer all requests that are not done, in any order, each as soon as it is finished."""
        ...

    def close(self) -> None:
        """Free what the model holds; nothing else may be called afterwards."""
        ...


@runtime_checkable
class WeightLoader(Protocol):
    """An engine that can take other weights while it is open."""

    def load_weights(self, weights: Iterable[tuple[str, Any]]) -> None:
        """Replace weights by tensors of the same names and shapes, named as in the model's checkpoint.

        Raises:
            ValueError: a tensor has no place in the model, or another shape.
        """
        ...


def context_tokens(folder: str, revision: str | None) -> int:
    """Tokens of prompt and completion that a model was made for."""
    return int(load_config(folder, revision).get_text_config().max_position_embeddings)
