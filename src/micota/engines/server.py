"""OpenAI-compatible endpoints that complete token ids: vLLM's server, SGLang, llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from micota.config import EngineConfig, SamplingConfig
from micota.endpoint import Endpoint
from micota.engines.base import Output, Request, context_tokens
from micota.errors import ConfigError
from micota.pretrained import load_tokenizer

KEY = "engine.server"


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
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{KEY}.url={self.server.url!r} does not list its models at /models") from None
        if self.model not in served:
            raise ConfigError(
                f"{KEY}.url={self.server.url!r} does not serve {self.model!r}; it serves {', '.join(sorted(served))}. "
                f"Start it with that model, or set the name that it has there: {KEY}.model=NAME"
            )
        longest = served[self.model].get("max_model_len")
        return None if longest is None else int(longest)

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> Iterator[Output]:
        """See the protocol. The server forms the batches; a request whose reply is lost is sent again."""
        bodies = {request.id: self._body(request, sampling) for request in requests if not request.done}
        for identity, reply in self._endpoint.post_all("/completions", bodies, self.concurrency):
            yield self._output(identity, reply)

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
            **self.server.extra_body,
        }

    def _output(self, identity: tuple[str, int], reply: httpx.Response) -> Output:
        try:
            content = reply.json()
            choice = content["choices"][0]
            reason = choice["finish_reason"]
            return Output(
                id=identity,
                text=str(choice["text"]),
                finish_reason=reason if reason in ("stop", "length") else "error",
                num_tokens=int(content["usage"]["completion_tokens"]),
                seconds=round(reply.elapsed.total_seconds(), 4),
            )
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ConfigError(
                f"{KEY}.url={self.server.url!r}: the reply is not a completion with usage ({error!r}): "
                f"{reply.text[:200]}"
            ) from None
