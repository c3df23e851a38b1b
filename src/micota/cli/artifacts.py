"""The tool artifacts: it lists the artifacts of earlier runs, finds or shows one, and deletes what nothing needs."""

from __future__ import annotations

import argparse
import difflib
import itertools
import json
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from micota.artifacts.inventory import Inventory, Item, Needs, delete, take
from micota.cli.arguments import tool_parser
from micota.cli.needs import needs_of
from micota.cli.verify import verify
from micota.config import TOOLS, override_key, without_keys
from micota.console import new_table, open_console
from micota.errors import ERROR, USER_ERROR, ConfigError, is_users, text_of

ACTIONS = {
    "list": "a line for each artifact; KEY=VALUE words name an experiment, and only it counts as needing artifacts",
    "path": "print the folder of one artifact: NAME, NAME-KEY, KIND/NAME or a key",
    "show": "print how one artifact was made: its command, numbers, inputs, and what was made from it",
    "verify": "hash the files of all artifacts, or of each NAME, again and compare them with their manifests",
    "clean": "list unfinished builds, and with KEY=VALUE words all that the experiments they name do not need; "
    "--yes deletes them",
}
WIDTH = 80
UNITS = ("B", "kB", "MB", "GB", "TB")
STEPS = ((60, "s"), (60, "min"), (24, "h"), (float("inf"), "d"))


def run(words: Sequence[str]) -> int:
    """Run the tool with the words after its name; returns the exit code."""
    try:
        given = _read(words)
        if given is None:
            return 0
        return _run(given, open_console())
    except Exception as error:
        if not is_users(error):
            raise
        print(f"{ERROR}{text_of(error)}", file=sys.stderr)
        return USER_ERROR


def _read(words: Sequence[str]) -> argparse.Namespace | None:
    """The words of the command line; None after ``--help``.

    Raises:
        ConfigError: they are not accepted.
    """
    parser, refuse = tool_parser("artifacts", (*ACTIONS, "KEY=VALUE", "--json", "--yes"))
    parser.add_argument("--yes", action="store_true")
    parser.add_argument("--config-dir")
    given = parser.parse_intermixed_args(list(words))
    if given.help or not words:
        print(usage())
        return None
    given.overrides = [word for word in given.words if "=" in word]
    given.action, *given.names = [word for word in given.words if "=" not in word] or [""]
    if given.action not in ACTIONS:
        close = difflib.get_close_matches(given.action, ACTIONS, n=1)
        refuse(f"{given.action!r} is no action" + (f"; did you mean {close[0]!r}?" if close else ""))
    takes_name = given.action in ("path", "show")
    if takes_name and len(given.names) != 1:
        refuse(f"{given.action} takes one NAME, and {len(given.names)} are given")
    if not takes_name and given.names and given.action != "verify":
        refuse(f"{given.action} takes no NAME, as {given.names[0]!r}")
    if given.yes and given.action != "clean":
        refuse(f"--yes belongs to clean, not to {given.action}")
    if given.json and given.action == "path":
        refuse("--json belongs to list, show, verify and clean, not to path")
    return given


def usage() -> str:
    """The text of ``--help``."""
    tool = TOOLS["artifacts"]
    lines = [*textwrap.wrap(tool.about, WIDTH), "", *(f"  micota artifacts {example}" for example in tool.examples), ""]
    for name, about in ACTIONS.items():
        lines += textwrap.wrap(about, WIDTH, initial_indent=f"  {name:<8}", subsequent_indent=" " * 10)
    lines += ["", "  artifacts=FOLDER   the folder; else $MICOTA_ARTIFACTS, or ./artifacts"]
    lines += ["  --json             the same as JSON", "  --config-dir DIR   also your YAML files"]
    return "\n".join(lines)


def _run(given: argparse.Namespace, console: Console) -> int:
    root, named = _folder(given.overrides), without_keys(given.overrides, {"artifacts"})
    if given.action in ("path", "show", "verify"):
        if named:
            raise ConfigError(f"artifacts {given.action} takes no {named[0]}; accepted: NAME, artifacts=FOLDER")
        inventory = take(root)
        if given.action == "verify":
            return verify(inventory, given.names, console, as_json=given.json)
        item = inventory.named(given.names[0])
        if given.action == "path":
            print(item.path)
        else:
            _show(inventory, item, console, as_json=given.json)
        return 0
    needs = needs_of(named, given.config_dir) if named else None
    if given.action == "list":
        _list(take(root, needs), console, as_json=given.json)
    else:
        _clean(root, needs, console, as_json=given.json, yes=given.yes)
    return 0


def _folder(overrides: Sequence[str]) -> Path:
    chosen = [item.partition("=")[2] for item in overrides if override_key(item) == "artifacts"]
    folder = chosen[-1] if chosen else os.environ.get("MICOTA_ARTIFACTS", "artifacts")
    if not folder.strip():
        raise ConfigError(f"artifacts={folder!r}; accepted: a folder")
    return Path(folder).expanduser()


def _list(inventory: Inventory, console: Console, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([_as_json(item) for item in inventory.items], indent=2))
        return
    _tables(inventory.items, console)
    total = sum(item.num_bytes for item in inventory.items)
    console.print(Text(f"{len(inventory.items)} artifacts, {size_text(total)}, in {inventory.root}", "bold"))
    others = [f"{name} {size_text(size)}" for name, size in inventory.others.items() if size]
    if others:
        console.print(Text(f"besides: {', '.join(others)}", "dim"))
    for item in inventory.items:
        if item.problem:
            console.print(Text(f"damaged: {item.problem}", "yellow"))


def _tables(items: Sequence[Item], console: Console) -> None:
    """A table for each kind of artifact."""
    now = datetime.now(UTC)
    for kind, group in itertools.groupby(items, key=lambda item: item.kind):
        table = new_table("")
        table.add_column(kind, overflow="fold")
        for column in ("size", "age", "state", "needed by"):
            table.add_column(column, justify="right" if column in ("size", "age") else "left", no_wrap=True)
        for item in group:
            state = f"{item.state}, in use" if item.in_use and item.state != "running" else item.state
            age = age_text((now - item.changed).total_seconds())
            table.add_row(f"{item.name}-{item.key}", size_text(item.num_bytes), age, state, _needed(item))
        console.print(table)
        console.print()


def _needed(item: Item) -> str:
    """The experiments and the number of artifacts that need one."""
    count = len(item.needed_by)
    artifacts = f"{count} artifact{'s' if count > 1 else ''}" if count else ""
    return ", ".join(filter(None, [*item.experiments, artifacts])) or "-"


def _clean(root: Path, needs: Needs | None, console: Console, *, as_json: bool, yes: bool) -> None:
    """List what can be deleted, or delete it."""

    def choose(inventory: Inventory) -> list[Item]:
        return removable(inventory, by_experiment=needs is not None)

    before = take(root, needs)
    items = delete(root, choose, needs) if yes else choose(before)
    if as_json:
        print(json.dumps([_as_json(item) for item in items], indent=2))
        return
    if items:
        _tables(items, console)
    size = size_text(sum(item.num_bytes for item in items))
    kept = f"{len(before.items) - len(items)} stay"
    whom = f"that {', '.join(needs)} does not need" if needs is not None else "that are not complete"
    if yes:
        console.print(Text(f"deleted {len(items)} artifacts {whom}: {size}; {kept}", "bold"))
    elif items:
        console.print(Text(f"{len(items)} artifacts {whom}: {size}; {kept}; --yes deletes them", "bold"))
    else:
        console.print(Text(f"there are no artifacts {whom}; {kept}", "bold"))


def removable(inventory: Inventory, *, by_experiment: bool) -> list[Item]:
    """What can be deleted: where experiments are named, all that none of them needs; else what is not complete.

    Nothing that a running command reads or makes is among it.
    """
    idle = [item for item in inventory.items if not item.in_use]
    if by_experiment:
        return [item for item in idle if item.state == "deleted" or not item.experiments]
    return [item for item in idle if item.state in ("partial", "deleted")]


def _show(inventory: Inventory, item: Item, console: Console, *, as_json: bool) -> None:
    manifest = item.manifest
    if as_json:
        print(json.dumps({**_as_json(item), "manifest": asdict(manifest) if manifest else None}, indent=2))
        return
    facts: dict[str, Any] = {"folder": item.path, "state": item.state, "size": size_text(item.num_bytes)}
    if item.problem:
        facts["problem"] = item.problem
    if manifest is not None:
        facts |= {"stage": manifest.stage, "key": manifest.key, "finished": manifest.finished_at}
        facts |= {"seconds": f"{manifest.seconds:g}", "command": manifest.command or "-"}
        facts |= {"experiment": manifest.experiment or "-", "commit": manifest.commit or "-"}
        facts |= {"versions": ", ".join(f"{name} {number}" for name, number in manifest.versions.items())}
        facts |= {name: f"{value:g}" for name, value in {**manifest.counts, **manifest.metrics}.items()}
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        console.print(Text.assemble((f"{name:<{width}}", "bold"), str(value)))
    console.print(Text("made from", "bold"))
    for line in _lineage(item, inventory.by_key(), "  "):
        console.print(Text(line))
    console.print(Text(f"{'needed by':<{width}}{', '.join(item.needed_by) or '-'}"))


def _lineage(item: Item, by_key: dict[str, Item], indent: str) -> Iterator[str]:
    """All that an artifact was made from, a line each, inputs of inputs indented."""
    for label, entry in item.manifest.inputs.items() if item.manifest else ():
        made = by_key.get(entry["key"])
        at = f"@{entry['revision']}" if entry.get("revision") else ""
        where = f"{entry['path']}{at}" if "path" in entry else f"{entry['name']}-{entry['key']} (deleted)"
        yield f"{indent}{label}: {made.folder if made else where}"
        if made:
            yield from _lineage(made, by_key, indent + "  ")


def _as_json(item: Item) -> dict[str, Any]:
    shown = {name: value for name, value in vars(item).items() if name != "manifest"}
    return shown | {"kind": item.kind, "path": str(item.path), "changed": item.changed.isoformat(timespec="seconds")}


def size_text(num_bytes: float) -> str:
    """A size in the largest decimal unit that leaves at least 1, as ``1.2 GB``."""
    unit = 0
    while num_bytes >= 1000 and unit < len(UNITS) - 1:
        num_bytes, unit = num_bytes / 1000, unit + 1
    return f"{num_bytes:.0f} {UNITS[unit]}" if unit == 0 or num_bytes >= 100 else f"{num_bytes:.1f} {UNITS[unit]}"


def age_text(seconds: float) -> str:
    """A duration in the largest unit that leaves at least 1, as ``3 h``."""
    for step, unit in STEPS:
        if seconds < step or step == float("inf"):
            return f"{max(0, seconds):.0f} {unit}"
        seconds /= step
    raise AssertionError("the last step has no end")
