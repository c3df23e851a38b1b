"""Concurrent requests to an OpenAI-compatible endpoint, with retries while it is busy or out of reach."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random_exponential,
)

from micota.config import EndpointConfig
from micota.errors import EndpointError
from micota.secrets import redacted, without

AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529)  # 52x are of Cloudflare
OF_A_GATEWAY = (408, 504, 524)  # the reply took longer than something between here and the model allows
LONGEST_WAIT_S = 30.0
CONNECT_S = 10.0
UNUSABLE = (httpx.InvalidURL, ValueError, ImportError)  # of httpx for an address or a proxy that it does not know
KEY_REFUSED = (401, 403)
MOST_BYTES = 64 * 2**20  # of a reply; a completion of a million tokens takes a tenth
OF_THE_BODY = ("content-encoding", "content-length", "transfer-encoding")  # headers that do not hold once it is read
LONGEST, SHOWN = 20_000, 400  # characters of a reply that are searched for a key, and that an error has
Name = TypeVar("Name")
Body = TypeVar("Body")
Result = TypeVar("Result")


class RefusedError(EndpointError):
    """The endpoint refuses a request, with an HTTP status that another try does not change."""

    def __init__(self, text: str, status: int, answer: str) -> None:
        super().__init__(text)
        self.status, self.answer = status, answer


class UnansweredError(EndpointError):
    """A request has no reply after all tries."""


class UnavailableError(Exception):
    """A failure that may pass; ``retry_after_s`` is the endpoint's Retry-After in seconds, 0 without one."""

    def __init__(self, problem: str, retry_after_s: float = 0.0) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


def _wait_s(state: RetryCallState) -> float:
    """Return the seconds before the next try: the backoff or Retry-After, the larger, at most ``LONGEST_WAIT_S``.

    Half of the backoff is random ("equal jitter"). So requests that failed together do not retry together, and 8
    retries still outlast a restart of the endpoint of 1.5 minutes. With a fully random backoff all waits may be near 0.
    """
    half = {"multiplier": 0.5, "max": LONGEST_WAIT_S / 2}
    backoff_s = (wait_exponential(**half) + wait_random_exponential(**half))(state)
    error = state.outcome.exception() if state.outcome else None
    retry_after_s = error.retry_after_s if isinstance(error, UnavailableError) else 0.0
    return min(LONGEST_WAIT_S, max(backoff_s, retry_after_s))


class Endpoint:
    """An endpoint of the configuration; ``key`` is its config key, which errors name."""

    def __init__(self, config: EndpointConfig, key: str) -> None:
        self.config = config
        self.key = key
        self._token = _token_of(config.key_variable)
        self._headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        self.address = f"{key}.url={_without_login(config.url)!r}"  # for errors
        self._timeout = httpx.Timeout(config.timeout_s, connect=min(CONNECT_S, config.timeout_s))

    def get(self, route: str) -> httpx.Response:
        """Send one GET request before the work, without retries: the run has not started, so it can fail at once.

        Raises:
            EndpointError: the endpoint refuses, or cannot be reached.
        """
        url = self.config.url.rstrip("/") + route
        try:
            with httpx.stream("GET", url, headers=self._headers, timeout=CONNECT_S) as opened:
                body = bytearray()
                for part in opened.iter_bytes():
                    body += part
                    check_size(len(body))
            reply = _with_body(opened, bytes(body))
        except UNUSABLE as error:
            raise self._unusable(error) from None
        except (httpx.RequestError, UnavailableError) as error:
            raise self._error(route, f"{type(error).__name__}: {error}") from None
        if not reply.is_success:
            raise self._error(route, self._status(reply))
        return reply

    def post_all(
        self, route: str, bodies: Mapping[Name, dict[str, Any]], concurrency: int
    ) -> Iterator[tuple[Name, httpx.Response]]:
        """Post every body, ``concurrency`` at a time, and yield successful replies with the name of their body, in the
        order of their arrival. Closing the iterator cancels the open requests.

        Raises:
            EndpointError: the endpoint refuses a request, or does not answer it after ``retries`` retries.
        """

        async def send(client: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
            async def once() -> httpx.Response:
                return await self._post_once(client, route, body)

            return await self.retried(once, route, body.get("model"))

        yield from self.run_all(bodies, concurrency, send)

    def run_all(
        self,
        bodies: Mapping[Name, Body],
        concurrency: int,
        send: Callable[[httpx.AsyncClient, Body], Awaitable[Result]],
    ) -> Iterator[tuple[Name, Result]]:
        """Call ``send`` with every body, ``concurrency`` at a time, and yield the results, in the order of their
        arrival. Closing the iterator cancels the open calls. An exception of a call is raised."""
        with asyncio.Runner() as runner:
            replies: asyncio.Queue[tuple[Name, Result | Exception]] = asyncio.Queue()
            waiting = iter(bodies.items())
            client = self._client(concurrency)

            async def work() -> None:
                for name, body in waiting:
                    try:
                        replies.put_nowait((name, await send(client, body)))
                    except Exception as error:
                        replies.put_nowait((name, error))

            async def start() -> list[asyncio.Task[None]]:
                return [asyncio.create_task(work()) for _ in range(min(concurrency, len(bodies)))]

            async def stop() -> None:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await client.aclose()

            tasks = runner.run(start())
            try:
                for _ in bodies:
                    name, reply = runner.run(replies.get())
                    if isinstance(reply, Exception):
                        raise reply
                    yield name, reply
            finally:
                runner.run(stop())

    def _client(self, concurrency: int) -> httpx.AsyncClient:
        """A client for so many requests at once.

        Raises:
            EndpointError: the address, or that of a proxy in the environment, cannot be used.
        """
        try:
            return httpx.AsyncClient(
                base_url=self.config.url.rstrip("/"),
                headers=self._headers,
                timeout=self._timeout,
                limits=httpx.Limits(max_connections=concurrency),
            )
        except UNUSABLE as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> EndpointError:
        why = self._hidden(str(error))
        return EndpointError(
            f"{self.address}: no connection can be made ({why}); "
            "accepted: http and https, and a proxy of these in the variables HTTP_PROXY, HTTPS_PROXY and ALL_PROXY"
        )

    async def retried(self, once: Callable[[], Awaitable[Result]], route: str, model: str | None = None) -> Result:
        """The result of ``once``, a coroutine function, which is called again while it raises ``UnavailableError``.

        Raises:
            UnansweredError: it still raises one after ``retries`` retries.
        """
        # One object per request: tenacity keeps the state of a call in it, and concurrent requests would share it.
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self.config.retries + 1),
            wait=_wait_s,
            retry=retry_if_exception_type(UnavailableError),
            reraise=True,
        )
        try:
            return await retrying(once)
        except UnavailableError as error:
            raise UnansweredError(self._text(route, self._hidden(str(error))[:SHOWN], model)) from None

    async def _post_once(self, client: httpx.AsyncClient, route: str, body: dict[str, Any]) -> httpx.Response:
        async with self.posted(client, route, body) as reply:
            whole = await read(reply)
        self.check(whole, route, body.get("model"))
        return whole

    @asynccontextmanager
    async def posted(
        self, client: httpx.AsyncClient, route: str, body: dict[str, Any]
    ) -> AsyncIterator[httpx.Response]:
        """The reply to one request, whose body has not been read; the block must end within ``timeout_s``.

        Raises:
            UnavailableError: it does not, or the connection fails.
        """
        timeout_s = self.config.timeout_s
        try:
            async with asyncio.timeout(timeout_s), client.stream("POST", route, json=body) as reply:
                yield reply
        except TimeoutError:
            raise UnavailableError(f"no reply in {timeout_s:g} seconds ({self.key}.timeout_s)") from None
        except httpx.RequestError as error:
            raise UnavailableError(f"{type(error).__name__}: {error}") from None

    def check(self, reply: httpx.Response, route: str, model: str | None) -> None:
        """Refuse a reply with an HTTP status of failure; its body must have been read.

        Raises:
            UnavailableError: the failure may pass.
            RefusedError: another try would fail too.
        """
        if reply.is_success:
            return
        problem = self._status(reply)
        if reply.status_code in OF_A_GATEWAY and getattr(self.config, "stream", None) is False:
            problem += f"; what ends long replies lets them pass in pieces: {self.key}.stream=true"
        if reply.status_code not in AGAIN:
            if reply.status_code in KEY_REFUSED:
                has = "holds a key" if self._token else "is not set"
                problem += f"; the key is read from the environment variable {self.config.key_variable}, which {has}"
            raise RefusedError(self._text(route, problem, model), reply.status_code, self._status(reply))
        after = reply.headers.get("Retry-After", "")
        # The other form, a date, is rare.
        raise UnavailableError(problem, float(after) if after.isdecimal() else 0.0)

    def _error(self, route: str, problem: str, model: str | None = None) -> EndpointError:
        return EndpointError(self._text(route, problem, model))

    def _text(self, route: str, problem: str, model: str | None = None) -> str:
        source = f"from model {model!r}" if model else f"to {route}"
        return f"{self.address}: no answer {source} ({self._hidden(problem)})"

    def _hidden(self, text: str) -> str:
        """A text in one line without the key, which some APIs repeat where they refuse it."""
        line = " ".join(text.split())
        return redacted(without(line, self._token) if self._token else line)

    def _status(self, reply: httpx.Response) -> str:
        """The status of a reply and the start of its text. A key is taken out before the text is cut, of which a part
        could stay otherwise."""
        return f"HTTP {reply.status_code}: {self._hidden(reply.text[:LONGEST])[:200]}"


async def read(reply: httpx.Response) -> httpx.Response:
    """The reply with its body in memory.

    Raises:
        UnavailableError: the body, which may be compressed, is too large.
    """
    body = bytearray()
    async for part in reply.aiter_bytes():
        body += part
        check_size(len(body))
    return _with_body(reply, bytes(body))


def _with_body(reply: httpx.Response, body: bytes) -> httpx.Response:
    headers = [(name, value) for name, value in reply.headers.multi_items() if name.lower() not in OF_THE_BODY]
    return httpx.Response(reply.status_code, headers=headers, content=body, request=reply.request)


def check_size(num_bytes: int) -> None:
    """Refuse a reply of so many bytes, if it is too large.

    Raises:
        UnavailableError: it is.
    """
    if num_bytes > MOST_BYTES:
        raise UnavailableError(f"the reply has more than {MOST_BYTES // 2**20} MiB")


def _token_of(variable: str) -> str:
    """The key in an environment variable, without white space around it, as the end of the line of a file.

    Raises:
        EndpointError: no header can hold it; the text does not show it.
    """
    token = os.environ.get(variable, "").strip()
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise EndpointError(
            f"the environment variable {variable} holds a key with white space or signs beyond ASCII within it, which "
            "is not shown here; accepted: the key alone"
        )
    return token


def _without_login(url: str) -> str:
    """An address without the name and password that it may hold."""
    return re.sub(r"(?<=://)[^/@]*@", "***@", url)
