"""APIs that take chat messages (OpenAI-compatible ``/chat/completions``), and give a thought apart from the answer."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from micota.config import EngineConfig, SamplingConfig
from micota.endpoint import Endpoint, RefusedError, UnansweredError
from micota.endpoint.replies import ENDS, OF_ONE_ROW, STREAM, THOUGHTS, fields_of, thought_of
from micota.engines.base import Output, Reply, Request, lost_text, outputs, refused
from micota.errors import EndpointError
from micota.limits import Account, Pace

KEY = "engine.chat"
ROUTE = "/chat/completions"


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
        replies = (reply for _, reply in self.endpoint.run_all(bodies, self.concurrency, sender.send))
        tally = yield from outputs(replies, self.chat.max_errors, self._all_refused)
        if tally.lost:
            raise EndpointError(lost_text(tally.lost, len(bodies)))
        if tally.num_not_sent:
            raise EndpointError(
                f"{KEY}.max_cost={self.chat.max_cost:g}: {self.account.spent:.4g} is spent, and {tally.num_not_sent} "
                "completions are missing; raise it, and the same command goes on"
            )

    def _all_refused(self, error: str, number: int) -> str:
        return (
            f"{self.endpoint.address}: the last {number} requests were refused ({error}); check {KEY}.model and "
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
            body |= STREAM
        return {name: value for name, value in (body | self.chat.extra_body).items() if value is not None}

    async def once(self, client: httpx.AsyncClient, request: Request, body: dict[str, Any]) -> Output:
        """One try of one request.

        Raises:
            UnavailableError: a failure that may pass.
            RefusedError: the API refuses it.
        """
        began = time.perf_counter()
        message = await fields_of(self.endpoint, client, ROUTE, body, _message)
        usage, reason, thought = message["usage"], message["finish_reason"], thought_of(message)
        details = usage.get("completion_tokens_details") or {}
        return Output(
            id=request.id,
            text=message.get("content") or "",
            finish_reason=reason if reason in ENDS else "error",
            num_tokens=usage["completion_tokens"],
            seconds=round(time.perf_counter() - began, 4),
            thought=thought,
            num_cot_tokens=details.get("reasoning_tokens") if thought else None,
            num_prompt_tokens=int(usage.get("prompt_tokens") or 0),
            error=None if reason in ENDS else f"finish_reason {reason}",
        )


def _message(choice: dict[str, Any]) -> dict[str, Any]:
    """The texts of a choice, or of a piece of one."""
    message = choice.get("message") or choice.get("delta") or {}
    return {name: message[name] for name in ("content", *THOUGHTS) if message.get(name) is not None}


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
            return Reply(refused(body[0], error.answer))
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
