"""The protocol of engines."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from micota.config import SamplingConfig
from micota.errors import ConfigError, EndpointError
from micota.limits import Account
from micota.pretrained import context_of, load_config

LOST_IN_A_ROW = 3  # requests without a reply, before the endpoint counts as out of reach


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
    the prompt, and the ``error`` of a refused request. ``token_ids``
    are those of the text, of engines that have them.
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
    token_ids: list[int] | None = field(default=None, compare=False, repr=False)


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
    """The longest prompt + completion in tokens, by the config of the model.

    Raises:
        ConfigError: it has no limit, as that of Mamba.
    """
    longest = context_of(load_config(folder, revision))
    if longest is None:
        raise ConfigError(f"{folder}: its config.json has no max_position_embeddings; set engine.max_model_len=TOKENS")
    return longest


@dataclass(frozen=True)
class Reply:
    """What came of one request: an output, or that it was not sent, or why there is no reply."""

    output: Output | None = None
    lost: str = ""


@dataclass
class Tally:
    """The requests of a run that have no completion."""

    lost: list[str]
    num_not_sent: int = 0


def outputs(
    replies: Iterable[Reply], max_errors: int, all_refused: Callable[[str, int], str]
) -> Generator[Output, None, Tally]:
    """The outputs of replies; returns a ``Tally`` of the requests that have none.

    Raises:
        EndpointError: ``max_errors`` requests in a row are refused (the text is that of ``all_refused``, from the last
            refusal and their number), or the endpoint is out of reach.
    """
    refused: list[Output] = []  # since the last success, before which they may be the fault of the config
    tally = Tally([])
    lost_in_a_row = 0
    for reply in replies:
        if reply.lost:
            tally.lost.append(reply.lost)
            lost_in_a_row += 1
            if lost_in_a_row == LOST_IN_A_ROW:
                raise EndpointError(reply.lost)
        elif reply.output is None:
            tally.num_not_sent += 1
        elif reply.output.error is not None:
            refused.append(reply.output)
            if len(refused) == max_errors:
                raise EndpointError(all_refused(reply.output.error, len(refused)))
        else:
            lost_in_a_row = 0
            yield from (*refused, reply.output)
            refused = []
    yield from refused
    return tally


def lost_text(lost: list[str], num_requests: int) -> str:
    """The error of requests without a reply, after all others have theirs."""
    return f"{lost[0]}; {len(lost)} of {num_requests} have none; the same command asks for them"


def refused(request: Request, answer: str) -> Output:
    """The output of a request that the endpoint refused with ``answer``."""
    return Output(
        id=request.id, text="", finish_reason="error", num_tokens=0, seconds=0.0, num_prompt_tokens=0, error=answer
    )
