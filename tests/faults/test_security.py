"""Hostile inputs: code of models, names, formulas, keys, escapes, templates and files that others can write."""

from __future__ import annotations

import ast
import builtins
import json
import logging
import pickle
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas
import pytest
import torch

import micota
from micota import pretrained
from micota.artifacts.store import Build
from micota.config.addresses import holds_key, is_url
from micota.config.fields import is_slug
from micota.console import quieten
from micota.data.chat_template import use_template
from micota.data.sources import model_folder
from micota.errors import ConfigError, ModelError, shown
from micota.report.frames import as_csv
from micota.runtime import launch
from micota.secrets import redacted
from micota.template_trial import is_bounded

SOURCE = Path(micota.__file__).parent
KEY = "sk-abcdefghijklmnop0123456789"
EVIL = """
from pathlib import Path
Path(__file__).with_name("hacked").touch()
from transformers import PretrainedConfig
class EvilConfig(PretrainedConfig):
    model_type = "evil"
class EvilModel: ...
class EvilTokenizer: ...
"""


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A folder of a model whose classes are in a file of its own, which leaves a file where it runs."""
    classes = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": classes}))
    tokenizer = {"tokenizer_class": "EvilTokenizer", "auto_map": {"AutoTokenizer": ["evil.EvilTokenizer", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (tmp_path / "evil.py").write_text(EVIL)
    return tmp_path


@pytest.mark.parametrize("load", [pretrained.load_config, pretrained.load_tokenizer, pretrained.load_model])
def test_code_of_a_model_is_never_run_nor_asked_for(evil: Path, load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(builtins, "input", lambda *words: asked.append(words) or "y")
    with pytest.raises(ModelError, match="accepted: a folder with config"):
        load(evil)
    assert not asked and not list(evil.rglob("hacked"))


class Hostile:
    """What leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("content", ["pickle", "archive", "zeros", "empty"])
def test_weights_that_are_pickles_run_no_code(content: str, tmp_path: Path) -> None:
    folder, mark = tmp_path / "student", tmp_path / "hacked"
    shutil.copytree(model_folder("bundled:student"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    file = folder / "pytorch_model.bin"
    if content == "archive":
        torch.save({"weight": Hostile(mark)}, file)
    else:
        kinds = {"pickle": pickle.dumps({"weight": Hostile(mark)}, protocol=2), "zeros": bytes(100), "empty": b""}
        file.write_bytes(kinds[content])
    with pytest.raises(ModelError, match=r"a file of pickles is damaged, or has more in it than weights\); accepted: "):
        pretrained.load_model(folder)
    assert not mark.exists()


def test_every_call_that_loads_a_model_refuses_its_code() -> None:
    calls = [
        (path, node)
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "from_pretrained"
    ]
    of_auto = [(path, node) for path, node in calls if "Auto" in ast.unparse(node.func)]
    assert len(of_auto) >= 8
    for path, node in of_auto:
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        assert given.get("trust_remote_code") == "False", f"{path}:{node.lineno}"


@pytest.mark.parametrize("name", ["../x", "..", ".x", "-rf", "a/b", "a\0", "a\n", "=1+1", "@x", "", "a" * 101, None])
def test_a_name_that_becomes_a_part_of_a_folder_is_a_slug(name: Any) -> None:
    assert not is_slug(name)


def test_a_spreadsheet_computes_no_cell_of_an_export() -> None:
    table = pandas.DataFrame({"=label": ["=1+1", "+1", "-2", "@x", "\t=1", "fine"], "score": [-1.5, 0, 1, 2, 3, 4]})
    lines = as_csv(table).splitlines()
    assert lines == ["'=label,score", "'=1+1,-1.5", "'+1,0", "'-2,1", "'@x,2", "'\t=1,3", "fine,4"]


@pytest.mark.parametrize(
    "text",
    [
        f"http://{KEY}@host/v1", f"http://user:{KEY}@host/v1", f"http://host/v1?api_key={KEY}",
        f"{{'api_key': '{KEY}'}}",
        f"Authorization: Bearer {KEY}", f"HTTP 401: no such key {KEY}", f"extra_body.password={KEY}",
        "token of-the-test",
    ],
)  # fmt: skip
def test_no_printed_line_has_a_key(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "of-the-test")
    for hidden in (redacted(text), shown(text)):
        assert KEY not in hidden and "of-the-test" not in hidden and "***" in hidden
    assert redacted("max_tokens=3 eos_token='x' num_tokens: 5") == "max_tokens=3 eos_token='x' num_tokens: 5"


@pytest.mark.parametrize(
    "url", [f"http://{KEY}@h/v1", f"http://h/v1?key={KEY}", "ftp://h", "http://", "h", "http://h:x/"]
)
def test_an_address_has_no_key(url: str) -> None:
    assert not is_url(url) and is_url("http://localhost:8000/v1")


def test_a_request_has_no_key_in_its_fields() -> None:
    assert holds_key({"a": [{"API-Key": KEY}]}) and holds_key({"headers": {"Authorization": KEY}})
    assert not holds_key({"top_k": -1, "max_tokens": 3, "prompt_cache_key": "x", "stop_token_ids": [1]})


def test_requests_are_no_lines_of_a_log() -> None:
    quieten()
    assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)


def test_a_terminal_obeys_no_printed_name() -> None:
    assert shown("a\x1b[31m\x9b2J\u202eb\x07\nc") == r"a\x1b[31m\x9b2J\u202eb\x07 c"


@pytest.mark.parametrize(
    ("template", "is_fine"),
    [
        ("{{ 'x' * 10**10 }}", False),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", False),
        ("{% set n = namespace(x='x') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}", False),
        (
            "{% for a in messages[0].content %}{% for b in messages[0].content %}{% for c in messages[0].content %}"
            "{% endfor %}{% endfor %}{% endfor %}",
            False,
        ),
        ("{% set a = 1 %}{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}", True),
        ("{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}", True),
    ],
)
def test_a_template_renders_in_bounds(template: str, is_fine: bool) -> None:
    assert is_bounded(template) == is_fine
    if not is_fine:
        with pytest.raises(ModelError, match="its chat template needs more than"):
            pretrained.check_bounded({"default": template}, "folder")
        settings = SimpleNamespace(template=template, template_args={})
        with pytest.raises(ConfigError, match="renders without end, or fills the memory; accepted"):
            use_template(SimpleNamespace(name_or_path="folder", chat_template=None), settings)


def test_what_ranks_unpickle_is_where_nobody_else_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    class StopError(Exception):
        """Ends the launch at the first process."""

    def start(words: list[str], **_: Any) -> None:
        seen.append(Path(words[3]))
        assert stat.S_IMODE(seen[0].parent.stat().st_mode) == 0o700
        raise StopError

    monkeypatch.setattr(launch.subprocess, "Popen", start)
    config: Any = SimpleNamespace(trainer=SimpleNamespace(num_devices=1), num_threads=1)
    node: Any = None
    with pytest.raises(StopError):
        launch.launch(config, node, Build(tmp_path), SimpleNamespace(), "module")  # type: ignore[arg-type]
    assert seen and tmp_path not in seen[0].parents and not seen[0].exists()


def test_nothing_else_is_unpickled() -> None:
    readers = [path for path in SOURCE.rglob("*.py") if "pickle.load" in path.read_text(encoding="utf-8")]
    assert readers == [SOURCE / "runtime" / "launch.py"]
