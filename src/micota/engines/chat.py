"""APIs that take chat messages (OpenAI-compatible ``/chat/completions``), and give a thought apart from the answer."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from micota.config import EngineConfig, SamplingConfig
from micota.endpoint import Endpoint, RefusedError, UnansweredError, UnavailableError
from micota.engines.base import Output, Request
from micota.errors import EndpointError
from micota.limits import Account, Pace

KEY = "engine.chat"
ROUTE = "/chat/completions"
OF_ONE_ROW = (400, 413, 422)  # refusals of what a request says; others are refusals of all requests
LOST_IN_A_ROW = 3  # requests without a reply, before the endpoint counts as out of reach
THOUGHTS = ("reasoning_content", "reasoning")  # names of the thought in a message, by server
DATA, DONE = "data:", "[DONE]"  # of server-sent events


@dataclass(frozen=True)
class Reply:
    """What came of one request: an output, or that it was not sent, or why there is no reply."""

    output: Output | None = None
    lost: str = ""


class ChatEngine:
    """A model behind an API. It renders and counts prompts; here nothing of the model is loaded."""

    tokenizer: Any = None
    context_tokens = sys.maxsize  # the API refuses what is too long

    def __init__(self, config: EngineConfig, folder: str, revision: str | None) -> None:
        assert config.chat is not None, "the configuration has checked it"
        self.chat = config.chat
        self.concurrency = config.rows
        self.model = config.chat.model or folder
        self.account = Account(config.chat.price_of, config.chat.max_cost)
        self.endpoint = Endpoint(config.chat, KEY)
        self.template_args: dict[str, Any] = {}

    def close(self) -> None:
        """See the protocol."""

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> Iterator[Output]:
        """See the protocol. A request that the API refuses for its content gives an output with its error.

        Raises:
            EndpointError: the API refuses all requests, or is out of reach; or requests are left without a reply,
                after all others have theirs; or ``max_cost`` is reached.
        """
        bodies = {request.id: (request, self._body(request, sampling)) for request in requests if not request.done}
        sender = Sender(self, sampling.max_tokens)
        refused: list[Output] = []  # since the last success, before which they may be the fault of the config
        lost: list[str] = []
        lost_in_a_row = not_sent = 0
        for _, reply in self.endpoint.run_all(bodies, self.concurrency, sender.send):
            if reply.lost:
                lost.append(reply.lost)
                lost_in_a_row += 1
                if lost_in_a_row == LOST_IN_A_ROW:
                    raise EndpointError(reply.lost)
            elif reply.output is None:
                not_sent += 1
            elif reply.output.error is not None:
                refused.append(reply.output)
                if len(refused) == self.chat.max_errors:
                    raise EndpointError(self._all_refused(reply.output.error, len(refused)))
            else:
                lost_in_a_row = 0
                yield from (*refused, reply.output)
                refused = []
        yield from refused
        if lost:
            raise EndpointError(f"{lost[0]}; {len(lost)} of {len(bodies)} have none; the same command asks for them")
        if not_sent:
            raise EndpointError(
                f"{KEY}.max_cost={self.chat.max_cost:g}: {self.account.spent:.4g} is spent, and {not_sent} completions "
                "are missing; raise it, and the same command goes on"
            )

    def _all_refused(self, error: str, number: int) -> str:
        return (
            f"{KEY}.url={self.chat.url!r}: the last {number} requests were refused ({error}); check {KEY}.model and "
            f"the fields (+{KEY}.extra_body.FIELD=null takes one out), or raise {KEY}.max_errors"
        )

    def _body(self, request: Request, sampling: SamplingConfig) -> dict[str, Any]:
        body = {
            "model": self.model,
            "messages": request.messages,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request.seed % 2**31,  # servers differ in how large a seed they take
        }
        if self.template_args:  # as vLLM and SGLang name them
            body["chat_template_kwargs"] = self.template_args
        if self.chat.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return {name: value for name, value in (body | self.chat.extra_body).items() if value is not None}

    async def once(self, client: httpx.AsyncClient, request: Request, body: dict[str, Any]) -> Output:
        """One try of one request.

        Raises:
            UnavailableError: a failure that may pass.
            RefusedError: the API refuses it.
        """
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self.chat.timeout_s), client.stream("POST", ROUTE, json=body) as reply:
                streams = reply.is_success and "text/event-stream" in reply.headers.get("Content-Type", "")
                message = await _streamed(reply) if streams else await self._whole(reply)
        except TimeoutError:
            raise UnavailableError(f"no reply in {self.chat.timeout_s:g} seconds ({KEY}.timeout_s)") from None
        except httpx.TransportError as error:
            raise UnavailableError(f"{type(error).__name__}: {error}") from None
        return self._output(request, message, round(time.perf_counter() - began, 4))

    async def _whole(self, reply: httpx.Response) -> dict[str, Any]:
        await reply.aread()
        self.endpoint.check(reply, ROUTE, self.model)
        try:
            content = reply.json()
            choice = content["choices"][0]
            return {**choice["message"], "finish_reason": choice["finish_reason"], "usage": content.get("usage")}
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise EndpointError(self._odd(error, reply.text)) from None

    def _output(self, request: Request, message: dict[str, Any], seconds: float) -> Output:
        try:
            usage, reason = message["usage"], message["finish_reason"]
            details = usage.get("completion_tokens_details") or {}
            thought = next((message[name] for name in THOUGHTS if message.get(name)), None)
            return Output(
                id=request.id,
                text=str(message.get("content") or ""),
                finish_reason=reason if reason in ("stop", "length") else "error",
                num_tokens=int(usage["completion_tokens"]),
                seconds=seconds,
                thought=thought,
                num_cot_tokens=details.get("reasoning_tokens") if thought else None,
                num_prompt_tokens=int(usage["prompt_tokens"]),
                error=None if reason in ("stop", "length") else f"finish_reason {reason}",
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise EndpointError(self._odd(error, json.dumps(message))) from None

    def _odd(self, error: Exception, text: str) -> str:
        return f"{KEY}.url={self.chat.url!r}: the reply is not a chat completion with usage ({error!r}): {text[:200]}"


class Sender:
    """Sends the requests of one run within the limits of the configuration."""

    def __init__(self, engine: ChatEngine, max_tokens: int) -> None:
        self._engine, self._account, self._max_tokens = engine, engine.account, max_tokens
        self._account.begin()
        self._requests = Pace(engine.chat.requests_per_minute)
        self._tokens = Pace(engine.chat.tokens_per_minute)
        self._mean_tokens, self._num_replies = float(max_tokens), 0

    async def send(self, client: httpx.AsyncClient, body: tuple[Request, dict[str, Any]]) -> Reply:
        """The reply to one request, which waits for its turn at each try."""
        if not await self._account.admit(self._max_tokens):
            return Reply()
        taken, used = 0.0, (0, 0)

        async def once() -> Output:
            nonlocal taken
            expected = self._mean_tokens
            await self._requests.take(1)
            await self._tokens.take(expected)
            taken += expected
            return await self._engine.once(client, *body)

        try:
            output = await self._engine.endpoint.retried(once, ROUTE, self._engine.model)
            used = output.num_prompt_tokens or 0, output.num_tokens
            return Reply(output)
        except UnansweredError as error:
            return Reply(lost=str(error))
        except RefusedError as error:
            if error.status not in OF_ONE_ROW:
                raise
            return Reply(_refused(body[0], error.answer))
        finally:
            self._count(sum(used), taken)
            await self._account.close(*used)

    def _count(self, tokens: int, taken: float) -> None:
        """Correct what was taken for a request, and the mean that the next ones are expected to take."""
        self._tokens.correct(tokens - taken)
        if tokens:
            before = self._mean_tokens if self._num_replies else 0.0
            self._num_replies += 1
            self._mean_tokens = before + (tokens - before) / self._num_replies


def _refused(request: Request, answer: str) -> Output:
    return Output(
        id=request.id, text="", finish_reason="error", num_tokens=0, seconds=0.0, num_prompt_tokens=0, error=answer
    )


async def _streamed(reply: httpx.Response) -> dict[str, Any]:
    """The message of a reply that arrives in pieces, as if it had arrived whole.

    Raises:
        UnavailableError: it ends before its last piece, or has an error in it.
    """
    message: dict[str, Any] = {"content": "", "finish_reason": None, "usage": None}
    async for line in reply.aiter_lines():
        if not line.startswith(DATA):
            continue
        text = line.removeprefix(DATA).strip()
        if text == DONE:
            break
        try:
            _add(message, json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise UnavailableError(f"a piece of the reply cannot be read ({error!r}): {text[:200]}") from None
    if message["finish_reason"] is None:
        raise UnavailableError("the reply ended before it was complete")
    return message


def _add(message: dict[str, Any], piece: dict[str, Any]) -> None:
    if "error" in piece:
        raise UnavailableError(f"an error within the reply: {json.dumps(piece['error'])[:200]}")
    message["usage"] = piece.get("usage") or message["usage"]
    for choice in piece.get("choices") or []:
        delta = choice.get("delta") or {}
        for name in ("content", *THOUGHTS):
            if delta.get(name):
                message[name] = message.get(name, "") + delta[name]
        message["finish_reason"] = choice.get("finish_reason") or message["finish_reason"]
