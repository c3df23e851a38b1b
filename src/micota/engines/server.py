"""OpenAI-compatible endpoints that complete token ids: vLLM's server, SGLang, llama.cpp."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from micota.config import EngineConfig, SamplingConfig
from micota.endpoint import Endpoint, RefusedError, UnansweredError
from micota.endpoint.replies import ENDS, OF_ONE_ROW, STREAM, THOUGHTS, UNREADABLE, fields_of, thought_of
from micota.engines.base import Output, Reply, Request, context_tokens, lost_text, outputs, refused
from micota.errors import ConfigError, EndpointError
from micota.pretrained import load_tokenizer

KEY = "engine.server"
ROUTE = "/completions"


class ServerEngine:
    """A model on a server; prompts are rendered and tokenised here, as for every engine."""

    def __init__(self, config: EngineConfig, folder: str, revision: str | None) -> None:
        assert config.server is not None, "the configuration has checked it"
        self.concurrency = config.rows
        self.server = config.server
        self.model = config.server.model or folder
        self._endpoint = Endpoint(config.server, KEY)
        longest = self._longest()
        self.tokenizer: Any = load_tokenizer(folder, revision)
        longest = context_tokens(folder, revision) if longest is None else longest
        self.context_tokens = min(longest, config.max_model_len or longest)

    def _longest(self) -> int | None:
        """Tokens of prompt and completion that the server allows, where it reports them (vLLM does).

        Raises:
            ConfigError: the server is not there, or serves other models.
        """
        reply = self._endpoint.get("/models")
        try:
            served = {card["id"]: card for card in reply.json()["data"]}
        except UNREADABLE:
            raise ConfigError(
                f"{self._endpoint.address} does not list its models at /models; accepted: the base URL of a server "
                "with the API of OpenAI, which ends in /v1"
            ) from None
        if self.model not in served:
            names = ", ".join(sorted(map(str, served)))
            raise ConfigError(
                f"{self._endpoint.address} does not serve {self.model!r}; it serves {names}. "
                f"Start it with that model, or set the name that it has there: {KEY}.model=NAME"
            )
        longest = served[self.model].get("max_model_len")
        return longest if type(longest) is int and longest > 0 else None

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> Iterator[Output]:
        """See the protocol. The server forms the batches. A request without a reply that is a completion is
        sent again; one that the server refuses for its content gives an output with its error.

        Raises:
            EndpointError: the server refuses all requests, or is out of reach; or requests are left without a reply,
                after all others have theirs.
        """
        bodies = {request.id: (request, self._body(request, sampling)) for request in requests if not request.done}
        replies = (reply for _, reply in self._endpoint.run_all(bodies, self.concurrency, self._send))
        tally = yield from outputs(replies, self.server.max_errors, self._all_refused)
        if tally.lost:
            raise EndpointError(lost_text(tally.lost, len(bodies)))

    def _all_refused(self, error: str, number: int) -> str:
        return (
            f"{self._endpoint.address}: the last {number} requests were refused ({error}); check {KEY}.model and "
            f"{KEY}.extra_body, or raise {KEY}.max_errors"
        )

    async def _send(self, client: httpx.AsyncClient, body: tuple[Request, dict[str, Any]]) -> Reply:
        """The reply to one request, after tries again while a failure may pass."""

        async def once() -> Output:
            return await self._once(client, *body)

        try:
            return Reply(await self._endpoint.retried(once, ROUTE, self.model))
        except UnansweredError as error:
            return Reply(lost=str(error))
        except RefusedError as error:
            if error.status not in OF_ONE_ROW:
                raise
            return Reply(refused(body[0], error.answer))

    def close(self) -> None:
        """See the protocol; the server keeps its model."""

    def _body(self, request: Request, sampling: SamplingConfig) -> dict[str, Any]:
        return {
            "model": self.model,
            "prompt": request.prompt_ids,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request.seed % 2**31,  # servers differ in how large a seed they take
            **(STREAM if self.server.stream else {}),
            **self.server.extra_body,
        }

    async def _once(self, client: httpx.AsyncClient, request: Request, body: dict[str, Any]) -> Output:
        began = time.perf_counter()
        fields = await fields_of(self._endpoint, client, ROUTE, body, _texts)
        reason = fields["finish_reason"]
        return Output(
            id=request.id,
            text=fields.get("text") or "",
            finish_reason=reason if reason in ENDS else "error",
            num_tokens=fields["usage"]["completion_tokens"],
            seconds=round(time.perf_counter() - began, 4),
            thought=thought_of(fields),
            error=None if reason in ENDS else f"finish_reason {reason}",
        )


def _texts(choice: dict[str, Any]) -> dict[str, Any]:
    """The texts of a choice, or of a piece of one."""
    return {name: choice[name] for name in ("text", *THOUGHTS) if choice.get(name) is not None}
