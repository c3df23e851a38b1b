"""What comes back from an endpoint: whole or in pieces, completions or refusals, and requests without a reply."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

import httpx

from micota.endpoint import Endpoint, UnavailableError
from micota.engines.base import Output, Request
from micota.errors import EndpointError

OF_ONE_ROW = (400, 413, 422)  # refusals of what a request says; others are refusals of all requests
LOST_IN_A_ROW = 3  # requests without a reply, before the endpoint counts as out of reach
THOUGHTS = ("reasoning_content", "reasoning")  # names of the thought beside the text, by server
DATA, DONE = "data:", "[DONE]"  # of server-sent events
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
ENDS = ("stop", "length")
Fields = dict[str, Any]


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


async def fields_of(
    endpoint: Endpoint, client: httpx.AsyncClient, route: str, body: Fields, choice_of: Callable[[Fields], Fields]
) -> Fields:
    """The choice of one try of a request, with its ``finish_reason`` and ``usage``, whether it arrives whole or in
    pieces. ``choice_of`` takes the fields of text out of a choice.

    Raises:
        UnavailableError: a failure that may pass; a reply that is no completion is one, as proxies send pages of
            their own with the status of a success.
        RefusedError: the endpoint refuses it.
    """
    timeout_s, key = endpoint.config.timeout_s, endpoint.key
    try:
        async with asyncio.timeout(timeout_s), client.stream("POST", route, json=body) as reply:
            if reply.is_success and "text/event-stream" in reply.headers.get("Content-Type", ""):
                return await _streamed(reply, choice_of)
            await reply.aread()
    except TimeoutError:
        raise UnavailableError(f"no reply in {timeout_s:g} seconds ({key}.timeout_s)") from None
    except httpx.RequestError as error:
        raise UnavailableError(f"{type(error).__name__}: {error}") from None
    endpoint.check(reply, route, body.get("model"))
    return _whole(reply.text, choice_of)


def _whole(text: str, choice_of: Callable[[Fields], Fields]) -> Fields:
    try:
        content = json.loads(text)
        choice = content["choices"][0]
        fields = {**choice_of(choice), "finish_reason": choice["finish_reason"], "usage": content["usage"]}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise no_completion(error, text) from None
    return _checked(fields, text)


async def _streamed(reply: httpx.Response, choice_of: Callable[[Fields], Fields]) -> Fields:
    """The fields of a reply that arrives in pieces."""
    fields: Fields = {"finish_reason": None, "usage": None}
    async for line in reply.aiter_lines():
        if not line.startswith(DATA):
            continue
        text = line.removeprefix(DATA).strip()
        if text == DONE:
            break
        try:
            _add(fields, json.loads(text), choice_of)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise UnavailableError(f"a piece of the reply cannot be read ({error!r}): {text[:200]}") from None
    if fields["finish_reason"] is None:
        raise UnavailableError("the reply ended before it was complete")
    return _checked(fields, json.dumps(fields))


def _add(fields: Fields, piece: Fields, choice_of: Callable[[Fields], Fields]) -> None:
    if "error" in piece:
        raise UnavailableError(f"an error within the reply: {json.dumps(piece['error'])[:200]}")
    fields["usage"] = piece.get("usage") or fields["usage"]
    for choice in piece.get("choices") or []:
        for name, text in choice_of(choice).items():
            if isinstance(text, str):
                fields[name] = (fields.get(name) or "") + text
        fields["finish_reason"] = choice.get("finish_reason") or fields["finish_reason"]


def _checked(fields: Fields, text: str) -> Fields:
    """Refuse fields that are not those of a completion: a text, or at least a thought, a reason of the end, usage."""
    usage, said = fields["usage"], [name for name, value in fields.items() if isinstance(value, str) and value]
    if not isinstance(usage, dict) or type(usage.get("completion_tokens")) is not int:
        raise no_completion(KeyError("usage"), text)
    if not isinstance(fields["finish_reason"], str):
        raise no_completion(KeyError("finish_reason"), text)
    has_text = isinstance(fields.get("text", fields.get("content")), str)
    if fields["finish_reason"] in ENDS and not has_text and not {*THOUGHTS} & {*said}:
        raise no_completion(KeyError("text"), text)
    return fields


def no_completion(error: Exception, text: str) -> UnavailableError:
    """The failure of a reply that is not a completion."""
    return UnavailableError(f"the reply is not a completion with text and usage ({error!r}): {text[:200]}")


def thought_of(fields: Fields) -> str | None:
    """The thought beside the text of a reply."""
    return next((fields[name] for name in THOUGHTS if fields.get(name)), None)
