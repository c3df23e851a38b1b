"""The engine against a local test server, and against vLLM's."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from micota import endpoint
from micota.config import EngineConfig, SamplingConfig, ServerConfig
from micota.data.sources import model_folder
from micota.engines import open_engine
from micota.engines.base import Request
from micota.errors import ConfigError, EndpointError

TEACHER = model_folder("bundled:teacher")
SAMPLING = SamplingConfig(temperature=0.0, max_tokens=100)
REQUESTS = [Request(id=(str(index), 0), prompt_ids=[3, 4, 5 + index % 20], seed=2**40 + index) for index in range(120)]


class Server(BaseHTTPRequestHandler):
    """Answers with the seed it was sent; fails in ``failures`` of its requests in one way or another."""

    failures: ClassVar[float] = 0.0
    status: ClassVar[int] = 200
    received: ClassVar[list[dict[str, Any]]] = []
    at_once: ClassVar[Counter[str]] = Counter()
    dice: ClassVar[random.Random] = random.Random(0)
    lock: ClassVar[threading.Lock] = threading.Lock()
    end_of_test: ClassVar[threading.Event] = threading.Event()
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._reply({"data": [{"id": "teacher", "max_model_len": 512}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.lock:
            self.at_once["now"] += 1
            self.at_once["most"] = max(self.at_once["most"], self.at_once["now"])
            self.received.append(body)
            fails = self.dice.random() < self.failures
            how = self.dice.choice([429, 500, "hang up", "too late"])
        time.sleep(0.001)
        with self.lock:
            self.at_once["now"] -= 1
        if self.status != 200 or (fails and isinstance(how, int)):
            self.send_response(self.status if self.status != 200 else int(how))
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif fails and how == "hang up":
            self.close_connection = True
        elif fails:
            self.end_of_test.wait()
            self.close_connection = True
        else:
            choice = {"text": f"{body['seed']}", "finish_reason": "stop" if body["seed"] % 2 else "length"}
            self._reply({"choices": [choice], "usage": {"completion_tokens": 7}})

    def _reply(self, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineConfig]:
    monkeypatch.setattr(endpoint, "LONGEST_WAIT_S", 0.01)
    Server.failures, Server.status = 0.0, 200
    Server.received.clear()
    Server.at_once.clear()
    Server.end_of_test.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    yield EngineConfig(
        name="server", batch_size=8, server=ServerConfig(url=url, model="teacher", timeout_s=1.0, retries=30)
    )
    Server.end_of_test.set()
    server.shutdown()
    server.server_close()


def test_no_request_is_dropped_or_repeated_by_an_endpoint_that_fails(config: EngineConfig) -> None:
    Server.failures = 0.2
    engine = open_engine(config, TEACHER, None)
    outputs = list(engine.generate(REQUESTS, SAMPLING))
    assert sorted(output.id for output in outputs) == sorted(request.id for request in REQUESTS)
    seeds = {request.id: request.seed % 2**31 for request in REQUESTS}
    assert all(output.text == str(seeds[output.id]) and output.num_tokens == 7 for output in outputs)
    assert Counter(output.finish_reason for output in outputs) == {"stop": 60, "length": 60}
    assert len(Server.received) > len(REQUESTS), "the endpoint should have failed in some requests"
    assert 1 < Server.at_once["most"] <= config.batch_size


def test_requests_hold_all_settings_that_matter(config: EngineConfig) -> None:
    assert config.server is not None
    server = replace(config.server, extra_body={"top_k": -1})
    engine = open_engine(replace(config, server=server), TEACHER, None)
    list(engine.generate([replace(REQUESTS[0], done=True), REQUESTS[1]], replace(SAMPLING, temperature=0.5, top_p=0.9)))
    (body,) = Server.received
    assert body == {
        "model": "teacher", "prompt": [3, 4, 6], "max_tokens": 100, "temperature": 0.5, "top_p": 0.9,
        "seed": (2**40 + 1) % 2**31, "top_k": -1,
    }  # fmt: skip
    assert engine.context_tokens == 512, "as the server reports"


def test_an_interrupted_run_sends_no_more_requests(config: EngineConfig) -> None:
    outputs = open_engine(config, TEACHER, None).generate(REQUESTS, SAMPLING)
    next(outputs)
    outputs.close()
    num_received = len(Server.received)
    assert num_received < len(REQUESTS)
    time.sleep(0.05)
    assert len(Server.received) <= num_received + config.batch_size


@pytest.mark.parametrize(("status", "message"), [(401, "HTTP 401"), (500, "HTTP 500")])
def test_an_endpoint_that_refuses_is_one_clear_error(config: EngineConfig, status: int, message: str) -> None:
    engine = open_engine(config, TEACHER, None)
    Server.status = status
    with pytest.raises(
        EndpointError, match=rf"engine\.server\.url='http.*': no answer from model 'teacher' \({message}"
    ):
        list(engine.generate(REQUESTS, SAMPLING))


def test_a_missing_server_or_another_model_fails_before_the_work(config: EngineConfig) -> None:
    assert config.server is not None
    with pytest.raises(EndpointError, match=r"engine\.server\.url='http://127\.0\.0\.1:9/v1': .*ConnectError"):
        open_engine(replace(config, server=replace(config.server, url="http://127.0.0.1:9/v1")), TEACHER, None)
    with pytest.raises(ConfigError, match=r"does not serve 'qwen'; it serves teacher"):
        open_engine(replace(config, server=replace(config.server, model="qwen")), TEACHER, None)


@pytest.mark.vllm
def test_the_server_of_vllm_answers_as_transformers(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", TEACHER, "--dtype", "float32",
        "--port", "8765", "--max-num-seqs", "16", "--gpu-memory-utilization", "0.05", "--enforce-eager",
    ]  # fmt: skip
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        url = "http://127.0.0.1:8765/v1"
        for _ in range(300):
            assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
            try:
                httpx.get(url + "/models")
                break
            except httpx.TransportError:
                time.sleep(1)
        config = EngineConfig(name="server", batch_size=16, dtype="float32", server=ServerConfig(url=url))
        engine = open_engine(config, TEACHER, None)
        hf = open_engine(EngineConfig(name="hf", dtype="float32"), TEACHER, None)
        served = {output.id: output for output in engine.generate(REQUESTS[:40], SAMPLING)}
        local = {output.id: output for output in hf.generate(REQUESTS[:40], SAMPLING)}
        assert {key: replace(output, seconds=0.0) for key, output in served.items()} == {
            key: replace(output, seconds=0.0) for key, output in local.items()
        }
    finally:
        process.terminate()
        process.wait(60)
