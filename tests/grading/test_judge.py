"""The judge against a local test server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from micota import endpoint
from micota.config import JudgeConfig
from micota.errors import EndpointError
from micota.grading.judge import judged
from micota.records import Problem

PROBLEM = Problem(id="0", problem="What is 1+1?", answer="2")


class Server(BaseHTTPRequestHandler):
    """Replies True to a 2; first fails as often as ``failures`` states."""

    failures: ClassVar[list[int]] = []
    received: ClassVar[list[dict]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.failures:
            self.send_error(self.failures.pop())
            return
        self.received.append(body)
        question = body["messages"][0]["content"]
        text = "Perhaps." if "answer: maybe" in question else str("Student's answer: 2\n" in question)
        reply = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(endpoint, "LONGEST_WAIT_S", 0.0)
    Server.failures, Server.received = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def test_verdicts_come_with_their_row(url: str) -> None:
    rows = [(PROBLEM, "2"), (PROBLEM, "3"), (PROBLEM, None), (PROBLEM, "maybe"), (PROBLEM, "{problem}")]
    verdicts = dict(judged(rows, JudgeConfig(url=url, model="m", concurrency=3)))
    assert [verdicts[index].correct for index in range(5)] == [True, False, None, None, False]
    assert verdicts[2].reason == "no_answer" and "Perhaps" in verdicts[3].reason
    assert (
        all(body["temperature"] == 0 and body["model"] == "m" for body in Server.received) and len(Server.received) == 4
    )


def test_a_busy_endpoint_gets_the_request_again(url: str) -> None:
    Server.failures = [429, 500, 503]
    assert next(judged([(PROBLEM, "2")], JudgeConfig(url=url, model="m")))[1].correct is True


@pytest.mark.parametrize(("failures", "message"), [([401], "HTTP 401"), ([500] * 9, "HTTP 500")])
def test_an_endpoint_that_refuses_is_one_clear_error(url: str, failures: list[int], message: str) -> None:
    Server.failures = list(failures)
    with pytest.raises(EndpointError, match=rf"evaluation.judge.url='{url}': no answer from model 'm' \({message}"):
        list(judged([(PROBLEM, "2")], JudgeConfig(url=url, model="m")))


def test_nobody_there(url: str) -> None:
    with pytest.raises(EndpointError, match="ConnectError"):
        list(judged([(PROBLEM, "2")], JudgeConfig(url="http://127.0.0.1:9/v1", model="m", retries=1)))
