"""Upload to the hub, against a test server that implements the part of the protocol that an upload needs."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from micota.artifacts.jsonl import write_text
from micota.artifacts.store import Store
from micota.config import HubConfig, SelectConfig, SourceConfig
from micota.config.rows import RowsConfig
from micota.data.hub import check_hub, push
from micota.errors import ConfigError
from micota.graph.node import Node
from micota.graph.specs import Prompt, RowsSpec, SourceSpec

TOKEN = "hf_of_the_tests"

SHARED: dict[str, Any] = {
    "recipe": "strong",
    "problems": SourceConfig(path="x"),
    "prompt": Prompt(template="{problem}", system=None),
    "select": SelectConfig(filters=[]),
    "seed": 0,
    "rows": RowsConfig(path="rows.jsonl"),
    "tokenizer": SourceSpec(path="bundled:student", revision=None, fingerprint=None),
    "decontaminate_against": {},
}


class Hub(BaseHTTPRequestHandler):
    """Accepts one token, creates any repository, and keeps committed files in ``server.repos``."""

    server: Any

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._reply(401, {"error": "Invalid username or password."})
        elif self.path.startswith("/api/whoami"):
            self._reply(200, {"name": "ana", "type": "user", "auth": {}})
        else:
            self._reply(200, {"id": "ana/strong", "sha": "0" * 40, "siblings": []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            repo = json.loads(body)
            name = f"{repo.get('organization') or 'ana'}/{repo['name']}"
            self.server.repos[name] = repo | {"files": {}}
            self._reply(200, {"url": f"http://{self.headers['Host']}/datasets/{name}", "name": name})
        elif self.path == "/api/validate-yaml":
            self._reply(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            self._reply(
                200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        elif "/commit/" in self.path:
            repo = self.server.repos["/".join(self.path.split("/")[3:5])]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    repo["files"][line["value"]["path"]] = base64.b64decode(line["value"]["content"]).decode()
                else:
                    repo["message"] = line["value"]["summary"]
            self._reply(
                200,
                {
                    "commitUrl": f"http://{self.headers['Host']}/datasets/ana/x/commit/{'1' * 40}",
                    "commitOid": "1" * 40,
                    "success": True,
                },
            )
        else:
            self._reply(404, {"error": self.path})

    def _reply(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def repos(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    stored: dict[str, Any] = {}
    server.repos = stored  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield stored
    server.shutdown()
    server.server_close()


def test_rows_card_and_manifest_are_uploaded_to_a_private_repository(repos: dict[str, Any], tmp_path: Path) -> None:
    store, node = Store(tmp_path), Node(name="strong", spec=RowsSpec(**SHARED))
    with store.build(node, 0) as build:
        assert build is not None
        for name in ("data.jsonl", "card.json", "README.md"):
            write_text(build.path / name, f"of {name}\n")
    push(HubConfig(), check_hub(), store, node)
    push(HubConfig(repo="lab/mine", private=False), "ana", store, node)
    uploaded = repos[f"ana/strong-{node.key}"]
    assert uploaded["type"] == "dataset" and uploaded["visibility"] == "private" and node.key in uploaded["message"]
    assert uploaded["files"].keys() == {"data.jsonl", "card.json", "README.md", "manifest.json"}
    assert uploaded["files"]["data.jsonl"] == "of data.jsonl\n"
    assert repos["lab/mine"]["visibility"] == "public"


def test_without_a_valid_token_nothing_is_begun(repos: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ConfigError, match="the hub does not accept the token"):
        check_hub()
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere")
    with pytest.raises(ConfigError, match="needs a token that may write; set HF_TOKEN"):
        check_hub()
    assert repos == {}
