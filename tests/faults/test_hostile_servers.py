"""Servers that send without end, compressed gigabytes, or nested brackets; and texts that look like our marks."""

from __future__ import annotations

import asyncio
import json
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from micota import endpoint
from micota.config import EndpointConfig, JudgeConfig
from micota.endpoint import Endpoint
from micota.endpoint.replies import _streamed
from micota.errors import EndpointError
from micota.grading.judge import _question, _verdict
from micota.records import Problem


class Server(BaseHTTPRequestHandler):
    """Sends zeros that deflate has made small, or a byte at a time."""

    drips = False
    ended: threading.Event

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_GET(self) -> None:
        self.send_response(200)
        if not self.drips:
            self.send_header("Content-Encoding", "deflate")
        self.end_headers()
        with suppress(OSError):  # the client has enough
            self.wfile.write(b" " if self.drips else zlib.compress(bytes(300_000)))
            while self.drips and not Server.ended.wait(0.01):
                self.wfile.write(b" ")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(endpoint, "MOST_BYTES", 100_000)
    Server.ended = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    Server.ended.set()
    server.shutdown()
    server.server_close()


def test_a_reply_that_unpacks_to_too_much_is_refused(url: str) -> None:
    asked = Endpoint(EndpointConfig(url=url, retries=0), "engine.server")
    with pytest.raises(EndpointError, match="the reply has more than 0 MiB"):
        list(asked.post_all("/chat", {"a": {"model": "m"}}, 1))
    with pytest.raises(EndpointError, match="the reply has more than 0 MiB"):
        asked.get("/models")


def test_a_reply_of_a_judge_that_drips_has_an_end(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "drips", True)
    asked = Endpoint(EndpointConfig(url=url, retries=0, timeout_s=0.2), "evaluation.judge")
    with pytest.raises(EndpointError, match=r"no reply in 0.2 seconds \(evaluation.judge.timeout_s\)"):
        list(asked.post_all("/chat", {"a": {"model": "m"}}, 1))


class Pieces(httpx.AsyncByteStream):
    """A completion of ``count`` pieces, cut at places that are no ends of lines."""

    def __init__(self, count: int) -> None:
        self.count = count

    async def __aiter__(self) -> AsyncIterator[bytes]:
        text = json.dumps({"choices": [{"text": "ab", "finish_reason": "stop"}], "usage": {"completion_tokens": 1}})
        for _ in range(self.count):
            yield b"data: " + text[:9].encode()
            yield text[9:].encode() + b"\n\n"


def test_pieces_are_joined_once_and_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(count: int) -> str:
        reply = httpx.Response(200, stream=Pieces(count))
        return str(asyncio.run(_streamed(reply, lambda choice: {"text": choice["text"]}))["text"])

    assert read(500) == "ab" * 500
    monkeypatch.setattr(endpoint, "MOST_BYTES", 10_000)
    with pytest.raises(endpoint.UnavailableError, match="the reply has more than 0 MiB"):
        read(500)


def test_a_verdict_nested_without_end_is_none() -> None:
    for content in (b"[" * 100_000, b"null", b'{"choices": {}}', b'{"choices": [1]}'):
        assert _verdict(httpx.Response(200, content=content))[0] is None


def test_a_problem_with_marks_of_the_question_stays_a_problem() -> None:
    problem = Problem(id="1", problem="What is {answer} + {prediction}?", answer="{prediction}")
    question = str(_question(JudgeConfig(model="m"), problem, "{problem}")["messages"])
    assert "What is {answer} + {prediction}?" in question and "Reference answer: {prediction}" in question
    assert "Student's answer: {problem}" in question
