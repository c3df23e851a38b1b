from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from micota import graph
from micota.artifacts.jsonl import read_jsonl, write_jsonl
from micota.artifacts.store import Store
from micota.cli.generate import accounts
from micota.data.datacard import CARD, CARD_PAGE
from micota.records import DATA, Example
from micota.runtime.execute import perform
from micota.runtime.plan import tasks_of

ASK = [{"role": "user", "content": "Mia has 3 pens:+4 mod 10?"}]


def write_rows(path: Path, ids: range, num_tokens: int) -> None:
    write_jsonl(path, [
        Example(problem_id=str(i), messages=ASK, completion="3+4=7.", num_tokens=num_tokens, source=path.stem)
        for i in ids
    ])  # fmt: skip


def test_matched_recipes_are_made_and_accounted_for(composed: Callable[..., Any], tmp_path: Path) -> None:
    write_rows(tmp_path / "strong.jsonl", range(0, 30), 9)
    write_rows(tmp_path / "short.jsonl", range(10, 50), 2)
    recipes = {
        name: f"data={name}, data.generator=none, data.path={tmp_path / name}.jsonl" for name in ("strong", "short")
    }
    recipes["mix"] = (
        f"data=mix_long, data.parts.long.generator=none, data.parts.long.path={tmp_path}/strong.jsonl, "
        f"data.parts.short.generator=none, data.parts.short.path={tmp_path}/short.jsonl"
    )
    points = [f"{{{label}: [{', '.join(repr(item) for item in how.split(', '))}]}}" for label, how in recipes.items()]
    compare = f"compare.recipes=[{', '.join(points)}]"
    store = Store(tmp_path / "artifacts")
    problems = {}
    for label, how in recipes.items():
        config = composed(
            "generate", "experiment=tiny", "tracker=none", "select.match=problems", "select.num_examples=15", compare,
            *how.split(", "),
        )  # fmt: skip
        node = graph.data(config, config.data)
        for task in tasks_of(graph.unique([node])):
            perform(config, store, task, Console(quiet=True))
        rows = read_jsonl(store.path(node) / DATA, Example)
        problems[label] = sorted(row.problem_id for row in rows)
        assert len(rows) == 15 and all(10 <= int(row.problem_id) < 30 for row in rows)
        assert sum(row.source == "strong" for row in rows) == {"strong": 15, "short": 0, "mix": 3}[label]
    assert problems["strong"] == problems["short"] == problems["mix"]
    match = json.loads((store.path(node) / CARD).read_text())["match"]
    assert match["generators"]["short"] == {"passed": 40, "lost": 20, "alone_lacks": 10}
    assert "| strong | 30 | -10 | 20 |" in (store.path(node) / CARD_PAGE).read_text()
    console = Console(record=True, width=120, quiet=False, file=(tmp_path / "out").open("w"))
    for table in accounts(store, node):
        console.print(table)
    said = [line.split() for line in console.export_text().splitlines()]
    assert ["short:", "short.jsonl", "40", "40", "-20", "10"] in said, "rows of a file have no generator"
    assert ["mix", "15", "51", "0"] in said
