"""Keys are in no error, log, row, tracker or record, however they came there; and nothing printed steers a terminal."""

from __future__ import annotations

import json
import logging
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from rich.table import Table
from rich.text import Text

from micota import graph
from micota.artifacts.manifest import LOG
from micota.artifacts.store import Store
from micota.cli import app, sweeps
from micota.config.addresses import holds_key, is_url
from micota.config.parse import complaints
from micota.config.running import RayConfig, ServerConfig
from micota.console import open_console
from micota.endpoint import Endpoint, RefusedError
from micota.endpoint.replies import no_completion
from micota.errors import ConfigError, shown, text_of
from micota.secrets import SECRET, redacted

KEY = "p/w+0'aB9\"zzTOPzz"  # which a URL and JSON write in other forms


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_TEST_KEY", KEY)


def has_key(text: str) -> bool:
    return "zzTOP" in text or KEY[:8] in text


@pytest.mark.parametrize("form", [KEY, quote(KEY), quote(KEY, safe=""), json.dumps({"echo": KEY}), f"a{KEY}b"])
def test_a_key_of_the_environment_is_hidden_in_every_form(form: str) -> None:
    for hidden in (redacted(form), shown(form), text_of(ConfigError(form))):
        assert not has_key(hidden) and "***" in hidden


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Basic dXNlcjpwYXNzd29yZA==", "x-api-key: 0a1b2c3d", "client_secret=0a1b2c3d",
        "Cookie: sid=0a1b2c3d", "https://h/v1?auth=0a1b2c3d", "hf_token='0a1b2c3d'", '{"private_key": "0a1b2c3d"}',
        "AIza" + "0a1b2c3d" * 5, "ghp_0a1b2c3d0a1b2c3d", "AKIA0A1B2C3D0A1B2C3D", "eyJhbGciOi.0a1b2c3d0.0a1b2c3d",
        "http://me:0a1b2c3d@h/v1",
        "ghr_0a1b2c3d0a1b2c3d", "npm_0a1b2c3d0a1b2c3d", "r8_0a1b2c3d0a1b2c3d", "ya29.0a1b2c3d0a1b2c3d",
        "ASIA0A1B2C3D0A1B2C3D", "wandb_v1_0a1b2c3d0a1b2c3d",
    ],
)  # fmt: skip
def test_a_key_is_known_by_its_name_or_form(text: str) -> None:
    hidden = redacted(text)
    assert not any(part in hidden for part in ("0a1b2c3d", "0A1B2C3D", "dXNlcjpwYX")), hidden


def test_what_is_no_key_stays() -> None:
    for text in (
        "hf_continuous_batching_engine",
        "prompt_cache_key=3",
        "stop_token_ids: [1]",
        "num_tokens=400",
        "sk-ill",
    ):
        assert redacted(text) == text
    assert not any(SECRET.search(name) for name in ("eos_token", "max_tokens", "keys", "top_k", "prompt_cache_key"))


@pytest.mark.parametrize("fields", [
    {"client_secret": "x"}, {"extra": [{"Cookie": "x"}]}, {"session-token": "x"}, {"private_key": "x"}, {"passwd": "x"},
    {"user": "sk-0123456789abcdef0123"}, {"list": ["hf_0123456789abcdef0123"]}, {"note": f"echo {KEY}"},
])  # fmt: skip
def test_a_request_has_no_key_in_fields_or_texts(fields: dict[str, Any]) -> None:
    assert holds_key(fields)
    [line] = complaints(ServerConfig(url="http://h/v1", extra_body=fields))
    assert "accepted: a map of fields of a request, without keys" in line and "0123456789" not in shown(line)


def test_an_address_has_no_key_in_any_part() -> None:
    for url in ("http://h/v1#token=abc", "http://h/sk-0123456789abcdef0123/v1", "http://h/v1?client_secret=abc"):
        assert not is_url(url)
    [line] = complaints(RayConfig(address="ray://me:pw@h:10001"))
    assert "pw" not in shown(line) and "accepted: null, auto" in line


def test_a_key_that_a_server_echoes_is_hidden_before_its_text_is_cut() -> None:
    endpoint = Endpoint(ServerConfig(url="http://h/v1", key_variable="OF_THE_TEST_KEY", retries=0), "engine.server")
    for padding in (0, 180, 190):
        reply = httpx.Response(400, text="x" * padding + KEY)
        with pytest.raises(RefusedError) as refused:
            endpoint.check(reply, "/completions", "m")
        assert not has_key(str(refused.value)) and not has_key(refused.value.answer)
        unread = no_completion(ValueError("x"), "x" * padding + json.dumps(KEY))
        assert not has_key(endpoint._hidden(str(unread)))


def test_a_log_has_no_key(tmp_path: Path, composed: Callable[..., Any]) -> None:
    [node] = graph.scores(composed("evaluate", "experiment=tiny", "bench=[tiny_easy]"), "student").values()
    with Store(tmp_path).build(node, 0) as build:
        assert build is not None
        try:
            raise ValueError(f"echo {KEY}")
        except ValueError:
            logging.getLogger("library").exception("refused: %s", f"api_key={KEY}")
    text = (Store(tmp_path).path(node) / LOG).read_text()
    assert "Traceback" in text and "echo ***" in text and not has_key(text)


def test_the_traceback_of_a_bug_has_no_key(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise RuntimeError(f"echo {KEY}")
    except RuntimeError as error:
        app._print_bug(type(error), error, error.__traceback__)
    printed = capsys.readouterr().err
    assert "Traceback" in printed and "RuntimeError: echo ***" in printed and not has_key(printed)


def test_what_jobs_unpickle_is_where_nobody_else_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = tmp_path / "sweeps" / ".submitit"
    launcher = {"submitit_folder": f"{jobs}/%j"}
    search = SimpleNamespace(dir=str(tmp_path / "sweeps"))
    hydra = SimpleNamespace(sweep=search, launcher=launcher, sweeper={"_target_": "a.Search"})
    config: Any = SimpleNamespace(hydra=hydra, plan=False)
    jobs.mkdir(parents=True)
    jobs.chmod(0o777)
    sweeps.Points().on_multirun_start(config)
    assert stat.S_IMODE(jobs.stat().st_mode) == 0o700
    monkeypatch.setattr(sweeps.os, "getuid", lambda: -1)
    with pytest.raises(ConfigError, match="that of another user, and jobs run what is in it; accepted: "):
        sweeps.keep_private(jobs)
    with sweeps.no_record_of_failures():
        pass


def test_a_terminal_obeys_nothing_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    console = open_console()
    table = Table("a\x1b]0;x\x07")
    table.add_row("\x1b[2J", Text("\x9b31m"))
    for printed in ("plain\x1b[31m", Text("made: /tmp/\x1b[31m\u202ex", "bold"), table):
        console.print(printed)
    printed = capsys.readouterr().out
    assert not any(sign in printed for sign in "\x1b\x07\x9b\u202e"), repr(printed)
    assert "plain" in printed and r"\u001b[31m" in printed
    assert sys.stdout.isatty() is False
