from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from micota import endpoint
from micota.config import EndpointConfig
from micota.endpoint import Endpoint
from micota.errors import EndpointError


class Server(BaseHTTPRequestHandler):
    """Fails as often as there are failures left: a status, and the Retry-After that goes with it."""

    failures: list[tuple[int, str]]
    count: int

    def do_POST(self) -> None:
        Server.count += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        status, after = Server.failures.pop(0) if Server.failures else (200, "")
        self.send_response(status)
        if after:
            self.send_header("Retry-After", after)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Server.failures, Server.count = [], 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been waited."""
    recorded: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        if seconds:
            recorded.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    return recorded


def post(url: str, retries: int = 4) -> list[int]:
    endpoint = Endpoint(EndpointConfig(url=url, retries=retries), "engine.server")
    return [reply.status_code for _, reply in endpoint.post_all("/chat", {"a": {"model": "m"}}, 1)]


def test_waits_grow_and_half_of_each_is_random(url: str, waits: list[float]) -> None:
    Server.failures = [(503, "")] * 8
    assert post(url, retries=8) == [200]
    for wait, most in zip(waits, (1, 2, 4, 8, 16, 30, 30, 30), strict=True):
        assert most / 2 <= wait <= most
    assert len(set(waits)) == len(waits)


def test_an_endpoint_that_names_the_wait_gets_it(url: str, waits: list[float]) -> None:
    Server.failures = [(429, "7"), (429, "0"), (503, "Wed, 21 Oct 2026 07:28:00 GMT"), (429, "3600")]
    assert post(url) == [200]
    assert waits[0] == 7 and 1 <= waits[1] <= 2 and 2 <= waits[2] <= 4
    assert waits[3] == endpoint.LONGEST_WAIT_S


def test_retries_are_counted_beside_the_first_try(url: str, waits: list[float]) -> None:
    Server.failures = [(500, "")] * 9
    with pytest.raises(EndpointError, match=r"engine\.server\.url='http.*': no answer from model 'm' \(HTTP 500: {}\)"):
        post(url, retries=2)
    assert (Server.count, len(waits)) == (3, 2)
    Server.failures, Server.count = [(500, "")], 0
    with pytest.raises(EndpointError, match="HTTP 500"):
        post(url, retries=0)
    assert Server.count == 1


def test_a_refusal_is_not_tried_again(url: str, waits: list[float]) -> None:
    Server.failures = [(401, "1")]
    with pytest.raises(EndpointError, match="HTTP 401"):
        post(url)
    assert (Server.count, waits) == (1, [])
