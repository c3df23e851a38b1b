"""The protocol of engines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from micota.config import SamplingConfig
from micota.limits import Account
from micota.pretrained import context_of, load_config


@dataclass(frozen=True, kw_only=True)
class Request:
    """One sample to generate. ``seed`` makes it independent of other requests. ``done`` means that its output exists
    (an engine may still need the request, to form the same batches as an uninterrupted run). An engine that renders
    prompts itself gets ``messages``, and no ``prompt_ids``."""

    id: tuple[str, int]
    prompt_ids: list[int]
    seed: int
    done: bool = False
    messages: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Output:
    """One finished sample. ``num_tokens`` counts generated tokens with eos; ``seconds`` starts with its prompt.

    The rest is of engines that render prompts themselves: the ``thought`` before the text, its length, the length of
    the prompt, and the ``error`` of a refused request.
    """

    id: tuple[str, int]
    text: str
    finish_reason: str
    num_tokens: int
    seconds: float
    thought: str | None = None
    num_cot_tokens: int | None = None
    num_prompt_tokens: int | None = None
    error: str | None = None


class Engine(Protocol):
    """A model, loaded by the first ``generate`` at the latest. The tokenizer is loaded when the engine opens; it is
    None for an engine that takes messages, and renders and counts them itself."""

    tokenizer: Any
    context_tokens: int  # longest prompt + completion

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> Iterator[Output]:
        """The outputs of all requests that are not done, in any order, each as soon as it is finished."""
        ...

    def close(self) -> None:
        """Free the memory of the model; no other method may be called afterwards."""
        ...


@runtime_checkable
class WeightLoader(Protocol):
    """An engine that can take other weights while it is open."""

    def load_weights(self, weights: Iterable[tuple[str, Any]]) -> None:
        """Replace weights by tensors of the same names and shapes, named as in the model's checkpoint.

        Raises:
            ValueError: the model has no tensor of a name, or one of another shape.
        """
        ...


@runtime_checkable
class TakesTemplateArgs(Protocol):
    """An engine that renders prompts itself, with variables of the chat template."""

    template_args: dict[str, Any]


@runtime_checkable
class Priced(Protocol):
    """An engine whose completions cost money."""

    account: Account


def context_tokens(folder: str, revision: str | None) -> int:
    """The longest prompt + completion in tokens, by the config of the model."""
    longest = context_of(load_config(folder, revision))
    assert longest is not None, f"{folder}: its config has no max_position_embeddings"
    return longest
