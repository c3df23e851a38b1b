"""A server that takes what W&B's client sends, on this machine: it remembers, and answers as if all were well."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0" * 40
RUN = {"id": "UnVu", "project": {"id": "UA==", "name": "micota", "entity": {"id": "RQ==", "name": "someone"}}}
VIEW = {
    "id": "VmlldzoxMjM=", "name": "nw-abc-v", "type": "runs", "displayName": "", "description": "", "spec": "{}",
    "project": {"id": "UA==", "name": "micota", "entityName": "someone"}, "user": {"username": "someone"},
    "createdAt": "2026-01-01T00:00:00", "updatedAt": "2026-01-01T00:00:00",
}  # fmt: skip
ANSWERS: dict[str, Any] = {
    "viewer": {"id": "VQ==", "entity": "someone", "username": "someone", "email": "", "flags": "{}", "teams": {}},
    "serverInfo": {"features": []},
    "project": {"id": "UA==", "internalId": "SQ=="},
    "models": {"edges": [], "pageInfo": {"endCursor": None, "hasNextPage": False}},
    "upsertModel": {"model": {"id": "UA==", "name": "micota", "entityName": "someone"}},
    "upsertView": {"view": VIEW, "inserted": True},
    "upsertBucket": {"bucket": RUN, "inserted": True},
    "useArtifact": {"artifact": {"id": "QQ=="}},
}  # fmt: skip


@dataclass
class WandbServer:
    """``asked`` holds operation and variables of every GraphQL request, in order."""

    url: str = ""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def variables(self, operation: str) -> list[dict[str, Any]]:
        return [variables for name, variables in self.asked if name.lower() == operation.lower()]

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """All fields that a query names at its top, with more in each than it may have asked for."""
        operation = re.search(r"(?:query|mutation)\s+(\w+)", query)
        assert operation is not None
        self.asked.append((operation.group(1), variables))
        if operation.group(1) == "CreateArtifact":  # the same id for the same name and content, as it is there already
            identity = f"{variables['input']['artifactCollectionName']}:{variables['input']['digest']}"
            return {"createArtifact": {"artifact": {"id": identity, "state": "COMMITTED", "artifactSequence": {}}}}
        if operation.group(1) == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": RUN["id"], "uploadHeaders": [], "files": files}}
        return {name: value for name, value in ANSWERS.items() if re.search(rf"\b{name}\b", query)}


@contextmanager
def open_server() -> Iterator[WandbServer]:
    """Serve while the block runs."""
    found = WandbServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.body()
            answer: dict[str, Any] = {}
            if self.path == "/graphql":
                asked = json.loads(body)
                answer = {"data": found.answer(asked["query"], asked.get("variables") or {})}
            self.reply(json.dumps(answer).encode())

        def do_PUT(self) -> None:  # an upload
            self.body()
            self.reply(b"")

        def body(self) -> bytes:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(sent) if sent[:2] == b"\x1f\x8b" else sent

        def reply(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
