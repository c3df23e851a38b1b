"""The statistics of a merge by module and by layer: ``merge.json`` for programs, ``merge.txt`` for people."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from micota.artifacts.jsonl import write_text
from micota.graph import MergekitSpec, MergeSpec
from micota.merging.methods import Tally

JSON = "merge.json"
TEXT = "merge.txt"
_LAYER = re.compile(r"^(?:.*?\.)?[A-Za-z_]+\.(\d+)\.(.+)")  # as model.layers.3.mlp. or h.3.mlp.


def write_report(
    folder: Path, spec: MergeSpec | MergekitSpec, tallies: Mapping[str, Tally], sample: str, **more: Any
) -> dict[str, float]:
    """Write both reports, the one for programs with ``more``; returns the figures of the whole model."""
    groups = {"modules": _group(tallies, module_of), "layers": _group(tallies, layer_of)}
    total = summary(tallies.values())
    tensors = {name: summary([tally]) for name, tally in tallies.items()}
    content = {"recipe": asdict(spec), **more, "sample": sample, "model": total, **groups, "tensors": tensors}
    write_text(folder / JSON, json.dumps(content, indent=1) + "\n")
    lines = [f"sample: {sample!r}", "", _line("", HEADINGS)]
    for rows in ({"model": total}, *groups.values()):
        lines += [_line(name, [f"{value:.4g}" for value in _columns(row)]) for name, row in rows.items()] + [""]
    write_text(folder / TEXT, "\n".join(lines))
    return {
        "task_vector_norm": total["task_vector_norms"][0],
        "merged_vector_norm": total["merged_vector_norm"],
        "dropped_share": total["dropped_shares"][0],
    }


HEADINGS = ["elements", "task vector norm", "merged vector norm", "ratio", "dropped share", "conflicting"]


def _columns(row: Mapping[str, Any]) -> list[float]:
    norm = row["task_vector_norms"][0]
    ratio = row["merged_vector_norm"] / norm if norm else 0.0
    return [
        row["num_elements"], norm, row["merged_vector_norm"], ratio, row["dropped_shares"][0], row["conflicting"],
    ]  # fmt: skip


def _line(name: str, cells: list[str]) -> str:
    return f"{name:<32}" + "".join(f"{cell:>20}" for cell in cells)


def _group(tallies: Mapping[str, Tally], label: Any) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Tally]] = {}
    for name, tally in tallies.items():
        groups.setdefault(label(name), []).append(tally)
    return {name: summary(members) for name, members in groups.items()}


def summary(tallies: Iterable[Tally]) -> dict[str, Any]:
    """Norms and counts of several tensors together; lists have one value per fine-tuned model."""
    members = list(tallies)
    elements = sum(tally.num_elements for tally in members)
    models = range(len(members[0].dropped))
    return {
        "num_elements": elements,
        "task_vector_norms": [math.sqrt(sum(tally.task_vector_squares[i] for tally in members)) for i in models],
        "merged_vector_norm": math.sqrt(sum(tally.merged_squares for tally in members)),
        "dropped_shares": [sum(tally.dropped[i] for tally in members) / max(1, elements) for i in models],
        "conflicting": sum(tally.conflicting for tally in members),
    }


def module_of(name: str) -> str:
    """The tensor's name without the number of its layer."""
    match = _LAYER.search(name)
    return match.group(2) if match else name


def layer_of(name: str) -> str:
    """The layer of a tensor, or its name where it is in none."""
    match = _LAYER.search(name)
    return f"layer {match.group(1)}" if match else name
