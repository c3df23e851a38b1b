"""The engine for chat endpoints, against a server on loopback."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

import micota
from micota.artifacts.jsonl import read_jsonl
from micota.config import ChatConfig, EngineConfig, SamplingConfig, complaints
from micota.engines import open_engine
from micota.engines.base import Output, Request
from micota.errors import ConfigError, EndpointError
from micota.records import COMPLETIONS, Completion, Example

KEY = "sk-secret-of-the-test"
SAMPLING = SamplingConfig(temperature=0.5, max_tokens=100)


class Api(BaseHTTPRequestHandler):
    """Answers by what the last message asks for; a fault is given once for each text, or always."""

    received: ClassVar[list[dict[str, Any]]] = []
    faults: ClassVar[dict[str, str]] = {}  # by a part of the prompt: a status, "late", "cut", or "refuse" (always)
    tries: ClassVar[Counter[str]] = Counter()
    shape: ClassVar[str] = "reasoning_content"
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        self.received.append(body | {"authorization": self.headers["Authorization"], "path": self.path})
        fault = next((fault for part, fault in self.faults.items() if part in prompt), "")
        self.tries[prompt] += 1
        if fault == "refuse":
            self._send(400, {"error": {"message": f"the content is not allowed ({KEY})"}})
        elif fault == "key":
            self._send(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}})
        elif fault and (fault == "always late" or self.tries[prompt] == 1):
            self._fail(fault)
        else:
            self._answer(body)

    def _fail(self, fault: str) -> None:
        self.close_connection = True
        if fault == "cut":
            self._begin()
            self._piece({"choices": [{"delta": {"content": "half"}}]})
        elif "late" in fault:
            threading.Event().wait(0.4)
        else:
            self._send(int(fault), {}, {"Retry-After": "0"})

    def _answer(self, body: dict[str, Any]) -> None:
        usage = {"prompt_tokens": 5, "completion_tokens": 40, "completion_tokens_details": {"reasoning_tokens": 30}}
        thought = {} if self.shape == "plain" else {self.shape: "Let me think."}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "It is 4.", **thought}
            self._send(200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})
            return
        self._begin()
        for name, text in thought.items():
            for word in text.split(" "):
                self._piece({"choices": [{"delta": {name: f"{word} "}}]})
        self._piece({"choices": [{"delta": {"content": "It is "}}]})
        self._piece({"choices": [{"delta": {"content": "4."}, "finish_reason": "stop"}]})
        self._piece({"choices": [], "usage": usage})
        self._piece("[DONE]")

    def _begin(self) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()

    def _piece(self, content: Any) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        self.wfile.write(f"data: {text}\n\n".encode())

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(text)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Api.received, Api.faults, Api.tries, Api.shape = [], {}, Counter(), "reasoning_content"
    monkeypatch.setenv("OF_THE_TEST", KEY)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("micota.endpoint._wait_s", lambda state: 0.0)


def requests(*texts: str) -> list[Request]:
    return [
        Request(id=(text, 0), prompt_ids=[], seed=7, messages=[{"role": "user", "content": text}]) for text in texts
    ]


def answers(url: str, *texts: str, batch_size: int = 4, **settings: Any) -> dict[str, Output]:
    chat = ChatConfig(url=url, key_variable="OF_THE_TEST", **settings)
    engine = open_engine(EngineConfig(name="chat", batch_size=batch_size, chat=chat), "api/model", None)
    return {output.id[0]: output for output in engine.generate(requests(*texts), SAMPLING)}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("shape", ["reasoning_content", "reasoning", "plain"])
def test_thought_and_answer_arrive_whole_or_in_pieces(url: str, stream: bool, shape: str) -> None:
    Api.shape = shape
    output = answers(url, "a", stream=stream, extra_body={"seed": None, "top_k": 3})["a"]
    thought = None if shape == "plain" else "Let me think."
    assert (output.text, (output.thought or "").strip() or None) == ("It is 4.", thought)
    assert (output.finish_reason, output.num_tokens, output.num_prompt_tokens) == ("stop", 40, 5)
    assert output.num_cot_tokens == (None if shape == "plain" else 30)
    [body] = Api.received
    assert (body["path"], body["authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert (body["model"], body["max_tokens"], body["temperature"], body["top_k"]) == ("api/model", 100, 0.5, 3)
    assert "seed" not in body, "null takes a field out"


def test_what_passes_is_tried_again(url: str, no_waits: None) -> None:
    Api.faults = {"busy": "429", "down": "503", "late": "late", "cut": "cut"}
    outputs = answers(url, "busy", "down", "late", "cut", "fine", timeout_s=0.2)
    assert {output.text for output in outputs.values()} == {"It is 4."} and len(outputs) == 5
    assert Api.tries == {"busy": 2, "down": 2, "late": 2, "cut": 2, "fine": 1}


def test_a_refused_row_is_its_own_error(url: str) -> None:
    Api.faults = {"bad": "refuse"}
    outputs = answers(url, "bad", "one", "two", "three", batch_size=1)
    assert list(outputs) == ["bad", "one", "two", "three"]
    refused = outputs["bad"]
    assert (refused.finish_reason, refused.text, refused.num_tokens) == ("error", "", 0)
    assert refused.error is not None and "HTTP 400" in refused.error and "not allowed (***)" in refused.error
    assert Api.tries["bad"] == 1


def test_refusals_of_everything_end_the_run(url: str) -> None:
    Api.faults = {"": "refuse"}
    with pytest.raises(
        EndpointError, match=r"the last 3 requests were refused \(HTTP 400.*engine\.chat\.extra_body\.FIELD=null"
    ):
        answers(url, *"abcdef", max_errors=3)
    Api.faults = {"": "key"}
    with pytest.raises(
        EndpointError, match=r"HTTP 401.*\*\*\*.*environment variable OF_THE_TEST, which holds a key"
    ) as error:
        answers(url, *"abc")
    assert KEY not in str(error.value)


def test_rows_without_a_reply_are_left_for_the_next_run(url: str, no_waits: None) -> None:
    Api.faults = {"stuck": "always late"}
    seen = []
    chat = ChatConfig(url=url, timeout_s=0.1, retries=1)
    engine = open_engine(EngineConfig(name="chat", batch_size=2, chat=chat), "api/model", None)
    with pytest.raises(EndpointError, match=r"no reply in 0\.1 seconds.*; 1 of 4 have none; the same command"):
        for output in engine.generate(requests("stuck", "a", "b", "c"), SAMPLING):
            seen.append(output.id[0])
    assert sorted(seen) == ["a", "b", "c"], "the others have theirs"
    Api.faults = {"": "always late"}
    with pytest.raises(EndpointError, match=r"no answer from model 'api/model' \(no reply in 0\.1 seconds"):
        list(engine.generate(requests(*"abcdefgh"), SAMPLING))
    assert len(Api.tries) < 10, "an endpoint that is away is not asked for everything"


def test_the_cost_is_counted_and_limited(url: str) -> None:
    prices = {"prompt_price": 2e6, "completion_price": 1e6}  # 5 x 2 + 40 x 1 = 50 a completion
    chat = ChatConfig(url=url, **prices, max_cost=160)
    engine: Any = open_engine(EngineConfig(name="chat", batch_size=4, chat=chat), "api/model", None)
    seen = []
    with pytest.raises(EndpointError, match=r"engine\.chat\.max_cost=160: 200 is spent, and 2 completions are missing"):
        for output in engine.generate(requests(*"abcdef"), SAMPLING):
            seen.append(output.id[0])
    assert (len(seen), engine.account.spent) == (4, 200), "at most one more than fits"
    row = Completion(problem_id="a", sample=0, prompt_hash="", completion="", finish_reason="stop",
                     num_prompt_tokens=5, num_tokens=40, seconds=0.0)  # fmt: skip
    engine.account.start_with([row] * 4)
    assert engine.account.spent == 200
    [wrong] = complaints(EngineConfig(name="chat", chat=ChatConfig(url=url, max_cost=1)))
    assert wrong.startswith("chat: max_cost=1 without prices")


def test_requests_wait_for_their_turn(url: str) -> None:
    import time

    began = time.monotonic()
    answers(url, *"abcd", requests_per_minute=600)
    assert time.monotonic() - began >= 0.3
    began = time.monotonic()
    answers(url, *"abc", tokens_per_minute=60 * 45 * 10)  # 45 tokens each, the first taken for 100
    assert time.monotonic() - began >= 0.3


def test_data_of_an_api(url: str, tmp_path: Path, no_waits: None, capfd: pytest.CaptureFixture[str]) -> None:
    """The whole command: a refused row is one with an error, thoughts are kept in tags, the key is written nowhere."""
    settings = ["experiment=tiny", "data=strong", "engine=chat", f"engine.chat.url={url}", "problems.limit=4",
                "engine.chat.key_variable=OF_THE_TEST", "teacher.thinking={open:'<think>',close:'</think>'}",
                "teacher.path=api-model", "data.select.filters=[finished]", f"artifacts={tmp_path}", "tracker=none",
                "engine.chat.completion_price=2", "select.num_examples=null"]  # fmt: skip
    problems = micota.compose([*settings], "generate").problems
    from micota.data.sources import load_problems

    first = load_problems(problems)[0]
    Api.faults = {first.problem: "refuse", "+": "429"}
    folder = micota.generate(settings)
    [rows] = [read_jsonl(path, Completion) for path in tmp_path.glob(f"completions/*/{COMPLETIONS}")]
    errors = {row.problem_id: row.error for row in rows if row.error}
    assert len(rows) == 4 and list(errors) == [first.id] and "HTTP 400" in str(errors[first.id])
    good = next(row for row in rows if row.error is None)
    assert good.completion == "<think>\nLet me think.\n</think>\n\nIt is 4."
    assert (good.num_prompt_tokens, good.num_tokens, good.num_cot_tokens) == (5, 40, 30)
    examples = read_jsonl(folder / "data.jsonl", Example)
    assert [example.completion for example in examples] == [good.completion] * 3
    manifests = [json.loads(path.read_text()) for path in tmp_path.glob("completions/*/manifest.json")]
    assert manifests[0]["counts"]["finish_error"] == 1 and manifests[0]["metrics"]["cost"] == pytest.approx(3 * 80e-6)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written and not [path for path in written if KEY in path.read_text(errors="replace")]
    assert KEY not in "".join(capfd.readouterr())


def test_what_does_not_fit_is_refused(url: str, tmp_path: Path) -> None:
    settings = ["experiment=tiny", "data=strong", "engine=chat", f"engine.chat.url={url}", "problems.limit=1",
                f"artifacts={tmp_path}", "tracker=none"]  # fmt: skip
    generate: Callable[[list[str]], Any] = micota.generate
    with pytest.raises(ConfigError, match=r"gives a thought apart from the answer.*teacher\.thinking="):
        generate(settings)
    with pytest.raises(ConfigError, match=r"prompt\.generation_as_chat=false sends bare text"):
        generate([*settings, "prompt.generation_as_chat=false"])
    with pytest.raises(ConfigError, match=r"engine\.chat\.url is not set; accepted: the base URL"):
        generate(["data=strong", "engine=chat"])


def test_a_plan_has_the_price_of_an_api(tmp_path: Path) -> None:
    from rich.console import Console

    from micota import graph
    from micota.artifacts.store import Store
    from micota.runtime.plan import show_plan

    settings = ["experiment=tiny", "data=strong", "engine=chat", "engine.chat.url=http://localhost:1/v1",
                "problems.limit=1000", "engine.chat.prompt_price=1000", "engine.chat.completion_price=2000",
                "cost.prompt_tokens=10", "cost.long_tokens=100", f"artifacts={tmp_path}"]  # fmt: skip
    config = micota.compose(settings, "generate")
    console = Console(record=True, width=200, quiet=False, file=(tmp_path / "out").open("w"))
    show_plan(config, Store(tmp_path), [graph.data(config, config.data)], console)
    assert "Completions of APIs cost 210 in all" in console.export_text()  # 1000 x (10 x 1000 + 100 x 2000) / 10^6
