"""A server, gateway or proxy that fails: every row has its completion or its error, and none has a text of another."""

from __future__ import annotations

import gzip
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from micota.config import EngineConfig, SamplingConfig, ServerConfig
from micota.data.sources import model_folder
from micota.engines import open_engine
from micota.engines.base import Output, Request
from micota.errors import EndpointError, UserError

TEACHER = model_folder("bundled:teacher")
SAMPLING = SamplingConfig(temperature=0.0, max_tokens=100)
KEY = "sk-secret-of-the-test"
USAGE = {"completion_tokens": 7}
NULL = {"choices": [{"text": None, "finish_reason": "stop"}], "usage": USAGE}
NO_END = {"choices": [{"text": "half", "finish_reason": None}], "usage": USAGE}
TEXT = {"choices": [{"text": "half", "finish_reason": "stop"}], "usage": USAGE}
PIECE = b'data: {"choices": [{"text": "half"}]}\n\n'
# What a request gets at its first try, by name: content type, status, body.
FAULTS: dict[str, tuple[str, int, bytes]] = {
    "null": ("application/json", 200, json.dumps(NULL).encode()),
    "half": ("application/json", 200, b'{"choices": [{"text": "half of'),
    "html": ("text/html", 200, b"<html><body>\n<h1>Please sign in</h1>\n</body></html>"),
    "error": ("application/json", 200, b'{"error": {"message": "overloaded"}}'),
    "no_usage": ("application/json", 200, b'{"choices": [{"text": "x", "finish_reason": "stop"}]}'),
    "no_reason": ("application/json", 200, json.dumps(NO_END).encode()),
    "list": ("application/json", 200, b"[]"),
    "empty": ("application/json", 200, b""),
    "no_choices": ("application/json", 200, json.dumps({"choices": [], "usage": USAGE}).encode()),
    "not_utf8": ("application/json", 200, json.dumps(TEXT).encode().replace(b"half", b"caf\xe9")),
    "deep": ("application/json", 200, b"[" * 100_000),
    "not_utf8_piece": ("text/event-stream", 200, PIECE.replace(b"half", b"caf\xe9")),
    "gzip": ("application/json", 200, b"not compressed"),
    "gateway": ("text/html", 504, b"<html>\n<h1>504</h1>\n</html>"),
    "cloudflare": ("text/html", 524, b"<html>\n<h1>524</h1>\n</html>"),
    "cut": ("text/event-stream", 200, PIECE),
    "broken": ("text/event-stream", 200, b'data: {"choices": [{"te\n\n'),
    "late_error": ("text/event-stream", 200, PIECE + b'data: {"error": {"code": 500}}\n\n'),
}  # fmt: skip


class Faulty(BaseHTTPRequestHandler):
    """Answers with the seed; fails by the first token of the prompt, an index of ``plan``, once or always."""

    plan: ClassVar[list[str]] = []
    always: ClassVar[bool] = False
    shape: ClassVar[str] = "text"
    reply: ClassVar[tuple[str, int, bytes] | None] = None  # to every request
    tries: ClassVar[Counter[int]] = Counter()
    keys: ClassVar[set[str | None]] = set()
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.keys.add(self.headers["Authorization"])
        self._send("application/json", 200, json.dumps({"data": [{"id": "teacher"}]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        row = body["prompt"][0]
        self.tries[row] += 1
        fault = self.plan[row]
        if self.reply is not None:
            self._send(*self.reply)
        elif fault == "refuse":
            self._send("application/json", 400, json.dumps({"error": f"too long\n({KEY})"}).encode())
        elif fault and (self.always or self.tries[row] == 1):
            self._send(*FAULTS[fault], encoding="gzip" if fault == "gzip" else None)
        elif body.get("stream"):
            pieces = [{"choices": [{"text": text}]} for text in (str(body["seed"]), " it is")]
            pieces += [{"choices": [{"text": "", "finish_reason": "stop"}]}, {"choices": [], "usage": USAGE}]
            lines = [f"data: {json.dumps(piece)}\n\n" for piece in pieces]
            self._send("text/event-stream", 200, "".join([*lines, "data: [DONE]\n\n"]).encode())
        else:
            choice: dict[str, Any] = {"text": f"{body['seed']} it is", "finish_reason": "stop"}
            if self.shape != "text":
                choice |= {"text": "it is", self.shape: str(body["seed"])}
            text = json.dumps({"choices": [choice], "usage": USAGE}).encode()
            self._send("application/json", 200, gzip.compress(text), encoding="gzip")

    def _send(self, kind: str, status: int, body: bytes, encoding: str | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), "Retry-After": "0"}.items():
            self.send_header(name, value)
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineConfig]:
    monkeypatch.setattr("micota.endpoint._wait_s", lambda state: 0.0)
    monkeypatch.setenv("OF_THE_TEST", f"{KEY}\n")
    Faulty.plan, Faulty.always, Faulty.shape, Faulty.tries, Faulty.keys = [], False, "text", Counter(), set()
    Faulty.reply = None
    server = ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    yield EngineConfig(
        name="server",
        batch_size=4,
        server=ServerConfig(url=url, model="teacher", key_variable="OF_THE_TEST", retries=2),
    )
    server.shutdown()
    server.server_close()


def answers(config: EngineConfig, plan: list[str], **settings: Any) -> dict[str, Output]:
    Faulty.plan = plan
    assert config.server is not None
    engine = open_engine(replace(config, server=replace(config.server, **settings)), TEACHER, None)
    requests = [Request(id=(str(row), 0), prompt_ids=[row], seed=row) for row in range(len(plan))]
    return {output.id[0]: output for output in engine.generate(requests, SAMPLING)}


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_no_completion_is_sent_again_and_never_stored(config: EngineConfig, stream: bool) -> None:
    plan = [*FAULTS, "", ""]
    outputs = answers(config, plan, stream=stream)
    assert {row: output.text for row, output in outputs.items()} == {str(i): f"{i} it is" for i in range(len(plan))}
    assert {(output.finish_reason, output.num_tokens) for output in outputs.values()} == {("stop", 7)}
    assert Faulty.tries == {row: 2 if fault else 1 for row, fault in enumerate(plan)}


def test_a_refused_row_is_an_error_of_that_row(config: EngineConfig) -> None:
    outputs = answers(config, ["", "refuse", "", "refuse", ""])
    assert len(outputs) == 5
    refused = [output for output in outputs.values() if output.error is not None]
    assert sorted(output.id[0] for output in refused) == ["1", "3"]  # in the order of their answers
    assert {(output.finish_reason, output.text, output.num_tokens) for output in refused} == {("error", "", 0)}
    assert all("HTTP 400" in str(output.error) and KEY not in str(output.error) for output in refused)


def test_refusals_of_all_rows_end_the_run(config: EngineConfig) -> None:
    with pytest.raises(EndpointError, match=r"the last 3 requests were refused \(HTTP 400.*engine\.server\.extra_body"):
        answers(config, ["refuse"] * 6, max_errors=3)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_lasts_is_one_line_and_costs_no_other_row(config: EngineConfig, fault: str) -> None:
    Faulty.always, Faulty.plan = True, ["", fault, "", ""]
    engine = open_engine(config, TEACHER, None)
    requests = [Request(id=(str(row), 0), prompt_ids=[row], seed=row) for row in range(4)]
    seen = {}
    with pytest.raises(EndpointError, match=r"no answer from model 'teacher'.*; 1 of 4 have none; the same") as error:
        for output in engine.generate(requests, SAMPLING):
            seen[output.id[0]] = output.text
    assert seen == {row: f"{row} it is" for row in "023"}
    assert "\n" not in str(error.value) and Faulty.tries[1] == 3
    if fault in ("gateway", "cloudflare"):
        assert "engine.server.stream=true" in str(error.value)


def pieces(*choices: dict[str, Any]) -> tuple[str, int, bytes]:
    """A reply in pieces, whose signs beyond ASCII are not escaped."""
    every = [{"choices": [choice]} for choice in (*choices, {"text": "", "finish_reason": "stop"})]
    lines = [json.dumps(piece, ensure_ascii=False) for piece in (*every, {"choices": [], "usage": USAGE})]
    return "text/event-stream", 200, "".join(f"data: {line}\n\n" for line in (*lines, "[DONE]")).encode()


def whole(text: str, kind: str = "application/json", **more: Any) -> tuple[str, int, bytes]:
    reply = {"choices": [{"text": text, "finish_reason": "stop", **more}], "usage": USAGE}
    return kind, 200, json.dumps(reply, ensure_ascii=False).encode()


HALVES = b'data: {"choices": [{"text": "\\ud83d"}]}\n\ndata: {"choices": [{"text": "\\ude00"}]}\n\n'


@pytest.mark.parametrize(("reply", "text"), [
    (pieces({"text": "a\u2028b\x85c"}), "a\u2028b\x85c"),  # httpx cuts lines there
    ((*pieces()[:2], HALVES + pieces()[2]), "\U0001f600"),
    (pieces({"text": "one"}, {"text": "other", "index": 1}, {"text": " and two", "index": 0}), "one and two"),
    (whole("café", "application/json; charset=iso-8859-1"), "café"),
    (whole("\ufeff"), "\ufeff"),
    (whole("x", reasoning=["no text"]), "x"),
], ids=["line separators", "halves of a letter", "two answers", "charset", "mark", "thought"])  # fmt: skip
def test_a_text_is_stored_as_it_was_sent(config: EngineConfig, reply: tuple[str, int, bytes], text: str) -> None:
    Faulty.reply = reply
    output = answers(config, [""], stream=reply[0] == "text/event-stream")["0"]
    assert (output.text, output.thought, output.finish_reason) == (text, None, "stop")


def test_the_login_of_an_address_is_never_shown(config: EngineConfig) -> None:
    assert config.server is not None
    secret = config.server.url.replace("http://", "http://me:word@")
    with pytest.raises(EndpointError, match="were refused") as refused:
        answers(config, ["refuse"] * 3, max_errors=3, url=secret)
    with pytest.raises(UserError, match="does not serve 'other'") as missing:
        answers(config, [""], url=secret, model="other")
    assert "word" not in f"{refused.value} {missing.value}"


@pytest.mark.parametrize("shape", ["reasoning_content", "reasoning"])
def test_a_thought_beside_the_text_is_kept(config: EngineConfig, shape: str) -> None:
    Faulty.shape = shape
    output = answers(config, [""])["0"]
    assert (output.thought, output.text) == ("0", "it is")


def test_a_key_is_sent_without_its_line_end_and_never_shown(
    config: EngineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(config, [""])
    assert Faulty.keys == {f"Bearer {KEY}"}
    for key in (f"{KEY}\nsecond", f"{KEY} second", f"{KEY}é"):
        monkeypatch.setenv("OF_THE_TEST", key)
        with pytest.raises(EndpointError, match=r"environment variable OF_THE_TEST holds a key with") as error:
            answers(config, [""])
        assert KEY not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks4://127.0.0.1:9", "127.0.0.1"])
def test_a_proxy_that_fails_is_one_line(config: EngineConfig, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    assert config.server is not None
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    elsewhere = replace(config.server, url="http://name:word@server.invalid/v1")
    with pytest.raises(EndpointError, match=r"engine\.server\.url='http://\*\*\*@server\.invalid/v1': no ") as error:
        open_engine(replace(config, server=elsewhere), TEACHER, None)
    assert "\n" not in str(error.value) and "word" not in str(error.value)
