"""Replies of an endpoint to requests for completions, whole or in pieces."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

from micota.endpoint import LONGEST, Endpoint, UnavailableError, check_size, read
from micota.visible import SURROGATE

OF_ONE_ROW = (400, 413, 422)  # refusals of what a request says; others are refusals of all requests
THOUGHTS = ("reasoning_content", "reasoning")  # names of the thought beside the text, by server
DATA, DONE = b"data:", b"[DONE]"  # of server-sent events
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
ENDS = ("stop", "length")
# What a reply raises that has no such fields; RecursionError that of 10^5 brackets.
UNREADABLE = (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError)
Fields = dict[str, Any]


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
    async with endpoint.posted(client, route, body) as reply:
        if reply.is_success and "text/event-stream" in reply.headers.get("Content-Type", ""):
            return await _streamed(reply, choice_of)
        whole = await read(reply)
    endpoint.check(whole, route, body.get("model"))
    return _whole(whole.content, choice_of)


def _whole(body: bytes, choice_of: Callable[[Fields], Fields]) -> Fields:
    try:
        # JSON is UTF-8, whatever charset a header names; the text of httpx has other letters for bytes that are not.
        content = json.loads(body.decode("utf-8-sig"))
        choice = content["choices"][0]
        fields = {**choice_of(choice), "finish_reason": choice["finish_reason"], "usage": content["usage"]}
    except UNREADABLE as error:
        raise no_completion(error, _shown(body)) from None
    return _checked(fields, _shown(body))


def _shown(body: bytes) -> str:
    return body[: 4 * LONGEST].decode(errors="replace")


async def _streamed(reply: httpx.Response, choice_of: Callable[[Fields], Fields]) -> Fields:
    """The fields of a reply that arrives in pieces."""
    fields: Fields = {"finish_reason": None, "usage": None}
    texts: dict[str, list[str]] = {}  # pieces by name: each sum of texts would copy all before
    async for line in _lines(reply):
        if not line.startswith(DATA):
            continue
        text = line.removeprefix(DATA).strip()
        if text == DONE:
            break
        try:
            _add(fields, texts, json.loads(text.decode()), choice_of)
        except UNREADABLE as error:
            raise UnavailableError(f"a piece of the reply cannot be read ({error!r}): {_shown(text)}") from None
    if fields["finish_reason"] is None:
        raise UnavailableError("the reply ended before it was complete")
    fields |= {name: "".join(pieces) for name, pieces in texts.items()}
    return _checked(fields, json.dumps(fields))


async def _lines(reply: httpx.Response) -> AsyncIterator[bytes]:
    """The lines of a reply. httpx also cuts at signs that may stand within JSON, as U+2028."""
    rest: list[bytes] = []  # parts of a line that has not ended
    num_bytes = 0
    async for part in reply.aiter_bytes():
        num_bytes += len(part)
        check_size(num_bytes)
        *lines, last = part.split(b"\n")
        for line in lines:
            yield b"".join([*rest, line])
            rest = []
        rest.append(last)
    yield b"".join(rest)


def _add(fields: Fields, texts: dict[str, list[str]], piece: Fields, choice_of: Callable[[Fields], Fields]) -> None:
    """Add a piece of a reply to its fields, and to its texts, which are in pieces."""
    if "error" in piece:
        raise UnavailableError(f"an error within the reply: {json.dumps(piece['error'])[:LONGEST]}")
    fields["usage"] = piece.get("usage") or fields["usage"]
    for choice in piece.get("choices") or []:
        if choice.get("index"):  # another answer to the same prompt
            continue
        for name, text in choice_of(choice).items():
            if isinstance(text, str):
                texts.setdefault(name, []).append(text)
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
    return {name: _joined(value) if isinstance(value, str) else value for name, value in fields.items()}


def _joined(text: str) -> str:
    """A text in which two halves of a letter, as of two pieces, are one letter; a half alone becomes U+FFFD."""
    return (
        text if SURROGATE.search(text) is None else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


def no_completion(error: Exception, text: str) -> UnavailableError:
    """The failure of a reply that is not a completion."""
    return UnavailableError(f"the reply is not a completion with text and usage ({error!r}): {text[:LONGEST]}")


def thought_of(fields: Fields) -> str | None:
    """The thought beside the text of a reply."""
    return next((fields[name] for name in THOUGHTS if isinstance(fields.get(name), str) and fields[name]), None)
