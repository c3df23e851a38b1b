"""The command ``doctor determinism``: the same evaluation again and again, and what differs, by benchmark."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

from rich.console import Console

from micota import graph
from micota.artifacts.jsonl import read_jsonl
from micota.artifacts.store import Store
from micota.config import DoctorConfig
from micota.console import WideTable, new_table, open_console, print_table
from micota.graph.node import AnyNode
from micota.records import REPETITIONS, Repetition
from micota.runtime.execute import execute


def determinism(config: DoctorConfig) -> None:
    """Make the audit of every benchmark and show it: a table each, or JSON."""
    targets = list(graph.determinism(config, absent()).values())
    execute(config, "doctor", list(targets), Console(stderr=True) if config.json else open_console())
    if config.plan:
        return
    store = Store(config.artifacts)
    shown = {str(node.benchmark): (node, rows_of(store, node)) for node in targets}
    if config.json:
        print(json.dumps({bench: [asdict(row) for row in rows] for bench, (_, rows) in shown.items()}, indent=2))
        return
    for node, rows in shown.values():
        print_table(open_console(), audit_table(node, rows))


def absent() -> dict[str, str]:
    """By name, why an engine of this machine cannot repeat an evaluation."""
    return {} if find_spec("vllm") is not None else {"vllm": "vLLM is not installed here"}


def rows_of(store: Store, node: AnyNode) -> list[Repetition]:
    """The runs of a finished audit."""
    return read_jsonl(store.verified(node) / REPETITIONS, Repetition)


def audit_table(node: AnyNode, rows: list[Repetition]) -> WideTable:
    """The shares of answers and scores that differ, one row for each run."""
    table = new_table(
        f"{node.name}: the same evaluation again", "a score differs where one answer is right and the other is not"
    )
    for column, justify in COLUMNS:
        table.add_column(column, justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*cells(row))
    return table


COLUMNS: tuple[tuple[str, Any], ...] = (
    ("run", "left"), ("engine", "left"), ("batch", "right"), ("threads", "right"), ("answers", "right"),
    ("right, %", "right"), ("compared with", "left"), ("answers differ, %", "right"), ("scores differ, %", "right"),
)  # fmt: skip


def cells(row: Repetition) -> list[str]:
    """The texts of a row of the table."""
    if row.left_out:
        return [row.label, f"left out: {row.left_out}", *[""] * (len(COLUMNS) - 2)]
    shares = ["", ""] if row.against is None else [f"{100 * row.share_answers:.1f}", f"{100 * row.share_scores:.1f}"]
    right = f"{100 * row.num_correct / row.num_answers:.1f}"
    numbers = [str(row.batch_size), str(row.num_threads), str(row.num_answers), right]
    return [row.label, row.engine, *numbers, row.against or "", *shares]
