"""What the files of this machine show before anything is made: a plan finds it, and names row, word and key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from micota import graph
from micota.artifacts.store import Store
from micota.config import SourceConfig
from micota.data.sources import model_folder
from micota.data.tokenizer_files import has_chat_template, strict_encoder
from micota.data.unknown_words import named, unknown_words
from micota.errors import UserError
from micota.graph import SourceSpec
from micota.runtime.plan import show_plan
from micota.stages.inspection import check_golds

Refused = Callable[..., str]
KNOWN = {"problem": "Ana has 5 pens:+3 mod 10?", "answer": "8"}
LINE = "has no tokens for"


@pytest.fixture
def refused(composed: Callable[..., Any], tmp_path: Path) -> Refused:
    """The line with which the plan of a command refuses overrides, empty where it accepts them."""

    def plan(command: str, *words: str) -> str:
        config = composed(command, "experiment=tiny", f"artifacts={tmp_path / 'artifacts'}", *words)
        targets = graph.evaluation(config) if command == "evaluate" else [graph.trained(config, config.role)]
        try:
            show_plan(config, Store(config.artifacts), targets, Console(quiet=True))
        except UserError as error:
            return str(error)
        return ""

    return plan


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def test_problems_of_unknown_words_are_found_by_a_plan(refused: Refused, tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl", KNOWN, {"problem": "What is 2 × 2?", "answer": "4"}, {"problem": "π", "answer": "3"}
    )
    line = refused("evaluate", "data=instruct", "bench=[]", f"bench.path={path}")
    assert line.startswith(
        f"{path}:2 (as 1 more of the rows): the tokenizer of bundled:student {LINE} 'What', 'is', '×'"
    )
    assert "accepted: texts of words that it knows" in line and "student=qwen1.5b" in line
    assert not refused("evaluate", "data=instruct", "bench=[]", f"bench.path={write(tmp_path / 'q.jsonl', KNOWN)}")


def test_training_rows_of_unknown_words_are_found_by_a_plan(refused: Refused, tmp_path: Path) -> None:
    rows = {"problem": KNOWN["problem"], "solution": "5+3=8"}, {"problem": KNOWN["problem"], "solution": "It is 8."}
    assert f":2: the tokenizer of bundled:student {LINE} 'It', 'is' of the row" in refused(
        "train", f"data.path={write(tmp_path / 'r.jsonl', *rows)}"
    )
    assert ":1: the columns x are of no known shape" in refused(
        "train", f"data.path={write(tmp_path / 's.jsonl', {'x': 1})}"
    )


def test_a_missing_chat_template_is_found_by_a_plan(refused: Refused, tmp_path: Path) -> None:
    folder = tmp_path / "student"
    shutil.copytree(model_folder("bundled:student"), folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for command in ("evaluate", "train"):
        line = refused(command, f"student.path={folder}", "data=strong")
        assert line.startswith(f"student.path={str(folder)!r}: the tokenizer has no chat template; accepted: ")
        assert "student.chat_template=FILE" in line
    (tmp_path / "own.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert not refused(
        "train", f"student.path={folder}", f"student.chat_template={tmp_path / 'own.jinja'}", "data=strong"
    )


def test_golds_that_are_not_of_their_type_are_found_by_a_plan(refused: Refused, tmp_path: Path) -> None:
    path = write(tmp_path / "golds.jsonl", KNOWN | {"answer": "many"})
    words = ["data=instruct", "bench=[]", f"bench.path={path}", "bench.golds.answer_type=integer"]
    assert "problem 0: answer 'many' is not of type integer" in refused("evaluate", *words)
    check_golds(SourceConfig(path=write(tmp_path / "q.jsonl", KNOWN)))


def test_what_is_not_here_shows_nothing(tmp_path: Path) -> None:
    absent = SourceSpec(path="no/such-model", revision=None, fingerprint=None)
    assert has_chat_template(absent) is None and strict_encoder(absent) is None
    broken = SourceSpec(path=str(tmp_path), revision=None, fingerprint=None)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text("{")
    assert has_chat_template(broken) is None and strict_encoder(broken) is None


def test_unknown_words_are_named_once_and_not_all() -> None:
    def encode(text: str) -> None:
        if "x" in text:
            raise Exception("Missing [UNK] token")

    assert unknown_words(encode, "ax b ax xx x1 x2 x3") == ["ax", "xx", "x1", "x2", "x3"]
    assert named(["ax", "x" * 50, "x1", "x2", "x3"]) == f"'ax', '{'x' * 20}...', 'x1', 'x2' and 1 more"
    assert unknown_words(encode, "b") == []


def test_a_folder_without_weights_is_found_by_a_plan(refused: Refused, tmp_path: Path) -> None:
    folder = tmp_path / "student"
    shutil.copytree(model_folder("bundled:student"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    for command in ("evaluate", "train"):
        line = refused(command, f"student.path={folder}", *(["data=instruct"] if command == "evaluate" else []))
        assert line.startswith(f"student.path={str(folder)!r}: the folder has no weights; accepted: "), line
    elsewhere = ["engine=server", "engine.server.url=http://h/v1", "data=instruct"]
    assert not refused("evaluate", f"student.path={folder}", *elsewhere)


def test_a_curriculum_of_parts_that_the_data_lack_is_found_by_a_plan(refused: Refused) -> None:
    mixture = ["data=mix_long", "student.sft.curriculum.order=mixture"]
    line = refused("train", *mixture, "student.sft.curriculum.points=[{at: 0, long: 0.5, nope: 0.5}]")
    assert line == "sft.curriculum.points names 'nope', and data=mix_long has no such part; accepted: long, short"
    assert not refused("train", *mixture, "student.sft.curriculum.points=[{at: 0, long: 0.5, short: 0.5}]")
    assert not refused("train", "data=annealed", "curriculum=merge_annealing"), "parts by the names of their recipes"
