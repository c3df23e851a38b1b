"""The files of W&B's offline runs, as W&B's own inspector reads them."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fork_server


@dataclass
class OfflineRun:
    """What one run will say of itself once it is synced; artifacts by name."""

    folder: Path
    run: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    used: dict[str, dict[str, Any]] = field(default_factory=dict)
    logged: dict[str, dict[str, Any]] = field(default_factory=dict)
    exit_code: int | None = None

    def table(self, name: str) -> dict[str, Any]:
        """Columns and data of a table, from the file that will be uploaded."""
        path = self.folder / "files" / self.summary[f"{name}.path"]
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return loaded


def read_runs(artifacts: Path) -> list[OfflineRun]:
    """All offline runs below an artifacts folder, oldest first."""
    return [read_run(folder) for folder in sorted((artifacts / "wandb").glob("offline-run-*"))]


def read_run(folder: Path) -> OfflineRun:
    script = str(Path(sys.executable).with_name("wandb"))
    inspected = fork_server.run(script, ["leet", "inspect", "--json", str(folder)], os.environ)
    inspected.check_returncode()
    lines = inspected.stdout.splitlines()
    found = OfflineRun(folder)
    for record in map(json.loads, lines):
        content = record.get(record["type"], {})
        match record["type"]:
            case "run":
                found.run = content
                found.config |= content["config"]["update"]
            case "config":
                found.config |= content["update"]
            case "summary":
                found.summary |= content["update"]
            case "history":
                found.history.append(content["item"])
            case "artifact":
                side = found.used if content.get("use_after_commit") else found.logged
                side[content["name"]] = content
            case "exit":
                found.exit_code = content.get("exit_code", 0)
    return found


def columns(config: dict[str, Any], at: str = "") -> set[str]:
    """The columns of a config in W&B, where a nested map has a column for each value."""
    nested = [columns(value, f"{at}{key}.") for key, value in config.items() if isinstance(value, dict)]
    return {f"{at}{key}" for key, value in config.items() if not isinstance(value, dict)}.union(*nested)
