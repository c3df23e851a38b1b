"""Upload to the hub, against a test server that implements the part of the protocol that an upload needs."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from micota.artifacts.jsonl import write_text
from micota.artifacts.store import Store
from micota.cli.merge import merge
from micota.config import Call, HubConfig, SamplingConfig, SelectConfig, SftConfig, SourceConfig, ThinkingConfig
from micota.config.rows import RowsConfig
from micota.data.hub import check_hub, push
from micota.data.sources import model_folder
from micota.errors import ConfigError
from micota.graph.node import AnyNode, Node
from micota.graph.specs import CompletionsSpec, MergeSpec, Prompt, RowsSpec, ScoresSpec, SourceSpec, TrainSpec

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
                    repo["files"][line["value"]["path"]] = base64.b64decode(line["value"]["content"]).decode(
                        errors="replace"
                    )
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
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield stored
    server.shutdown()
    server.server_close()


def given(push_to_hub: bool | str, hub: HubConfig | None = None) -> Any:
    """The part of a config that an upload reads."""
    call = Call(overrides=["experiment=tiny", "data=strong"])
    return SimpleNamespace(push_to_hub=push_to_hub, hub=hub or HubConfig(), call=call)


def test_rows_card_and_manifest_are_uploaded_to_a_private_repository(repos: dict[str, Any], tmp_path: Path) -> None:
    store, node = Store(tmp_path), Node(name="strong", spec=RowsSpec(**SHARED))
    with store.build(node, 0) as build:
        assert build is not None
        for name in ("data.jsonl", "card.json", "README.md"):
            write_text(build.path / name, f"of {name}\n")
    push(given(True), check_hub(), store, node)
    push(given(True, HubConfig(repo="lab/mine", private=False)), "ana", store, node)
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


def made(store: Store, node: AnyNode, counts: dict[str, int], metrics: dict[str, float], command: str = "") -> AnyNode:
    with store.build(node, 0, "tiny", command) as build:
        assert build is not None
        write_text(build.path / f"{node.kind}.safetensors", f"of {node.name}")
        build.counts |= counts
        build.metrics |= metrics
    return node


def chain(store: Store) -> tuple[AnyNode, AnyNode]:
    """A model tuned from one on the hub, with its data and scores, and a merge of the two."""
    base: AnyNode = Node(name="base", spec=SourceSpec(path="Qwen/Qwen2.5-7B", revision="a1", fingerprint=None))
    data = made(store, Node(name="strong", spec=RowsSpec(**SHARED),
                            command="generate", choose={"data": "strong"}), {"examples": 7}, {})  # fmt: skip
    sft = SftConfig(learning_rate=1e-5, batch_size=4, epochs=2, lora=None)
    tuned = made(store, Node(name="base+strong", inputs={"model": base, "data": data}, command="train",
                             spec=TrainSpec(sft=sft, precision="32-true", attention="auto", loss="auto", seed=0),
                             choose={"role": "ta"}), {"steps": 14}, {"loss": 0.25})  # fmt: skip
    sampling = SamplingConfig(temperature=0.0, max_tokens=64, num_samples=1)
    problems = SourceConfig(path="x")
    answers = made(store, Node(name="base+strong@easy", inputs={"model": tuned}, benchmark="easy", spec=CompletionsSpec(
        questions=problems, prompt=SHARED["prompt"], sampling=sampling, thinking=ThinkingConfig(), engine="hf",
        dtype="auto", extra_body={}, seed=None)), {}, {})  # fmt: skip
    made(store, Node(name="base+strong@easy", inputs={"completions": answers}, benchmark="easy",
                     spec=ScoresSpec(problems=problems, grader="typed", judge=None)),
         {}, {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6}, "micota evaluate role=ta_sft")  # fmt: skip
    merge = MergeSpec(
        method="ties", density=0.5, weight=0.5, instruct_density=None, instruct_weight=None, rescale="none",
        normalize=True, epsilon=0.0, gamma=0.0, dtype="auto", seed=0,
    )  # fmt: skip
    merged: AnyNode = Node(name="base+strong.ties", spec=merge, inputs={"base": base, "tuned": tuned}, command="merge")
    return tuned, made(store, merged, {}, {"merged_vector_norm": 2.0, "task_vector_norm": 4.0})


def test_a_model_is_uploaded_with_a_card_whose_numbers_name_artifact_and_command(
    repos: dict[str, Any], tmp_path: Path
) -> None:
    store = Store(tmp_path)
    tuned, merged = chain(store)
    push(given(True), check_hub(), store, tuned)
    push(given("lab/merged"), check_hub("lab/merged"), store, merged)
    uploaded = repos[f"ana/base-strong-{tuned.key}"]
    assert uploaded.get("type") in (None, "model") and uploaded["visibility"] == "private"
    assert uploaded["files"].keys() == {"models.safetensors", "README.md", "manifest.json"}
    card = uploaded["files"]["README.md"]
    front = yaml.safe_load(card.split("---")[1])
    assert front["base_model"] == ["Qwen/Qwen2.5-7B"] and front["base_model_relation"] == "finetune"
    train, data = "micota train role=ta experiment=tiny data=strong", "micota generate data=strong experiment=tiny"
    rows = [line.split(" | ") for line in card.splitlines() if line.startswith("| ") and line.count(" | ") == 3]
    numbers = {
        what.removeprefix("| "): (value, folder.strip("`"), line.strip("`| ")) for what, value, folder, line in rows[1:]
    }
    [scores] = store.root.glob("scores/*")
    assert numbers.pop("loss") == ("0.25", tuned.folder, numbers.pop("steps")[2])
    assert numbers.pop("examples of strong") == ("7", tuned.inputs["data"].folder, data)
    assert numbers == {
        "accuracy on easy in %, by typed, temperature 0 (95 % interval)": (
            "50.0 (40.0 to 60.0)", f"scores/{scores.name}", "micota evaluate role=ta_sft"
        )
    }  # fmt: skip
    assert train.split(" data=")[0] in card
    merged_card = repos["lab/merged"]["files"]["README.md"]
    assert yaml.safe_load(merged_card.split("---")[1])["base_model_relation"] == "merge"
    assert "was not evaluated before this upload" in merged_card and "| merged vector norm | 2 |" in merged_card


def test_a_name_that_the_hub_refuses_is_refused_before_the_work(repos: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"push_to_hub=lab/a\+b: "):
        check_hub("lab/a+b")
    assert repos == {}


def test_the_command_uploads_what_it_made_or_finds(
    repos: dict[str, Any], tmp_path: Path, composed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    base = shutil.copytree(model_folder("bundled:ta"), tmp_path / "base")
    models = ["merge.tuned.path=bundled:ta", f"merge.base.path={base}", "merge=linear", "merge.weight=0.5"]
    words = ["experiment=tiny", "tracker=none", f"artifacts={tmp_path / 'artifacts'}", *models]
    config = composed("merge", *words, "push_to_hub=lab/merged", "hub.private=false")
    for _ in range(2):
        merge(config)
        assert "uploaded: " in capsys.readouterr().out
    [model] = (tmp_path / "artifacts" / "models").iterdir()
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= repos["lab/merged"]["files"].keys()
    assert f"| `models/{model.name}` |" in repos["lab/merged"]["files"]["README.md"]
    assert repos["lab/merged"]["visibility"] == "public"
