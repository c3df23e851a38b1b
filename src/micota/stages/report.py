"""Finished comparisons -> a table here and a page; every seed that was run with the same settings is in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from micota.artifacts import ArtifactError, Store, write_text
from micota.config import Config
from micota.console import open_console
from micota.graph import Comparison, comparison
from micota.report.collect import summarise
from micota.report.table import comparison_table
from micota.stages.make import pending

SEEDS = "seeds.json"


def report(config: Config, arms: list[Config], console: Console | None = None) -> Path:
    """Show the table, write the page, and print its path last.

    Raises:
        ArtifactError: the comparison has not been run.
    """
    from micota.report.page import render_page  # plotly takes its time, which a plan need not wait for

    console = console or open_console()
    store = Store(config.artifacts)
    folder = report_folder(config, arms)
    known = json.loads((folder / SEEDS).read_text()) if (folder / SEEDS).exists() else []
    by_seed: dict[int, Comparison] = {}
    for seed in sorted({*known, config.seed}):
        candidate = comparison([replace(arm, seed=seed) for arm in arms])
        if not pending(store, candidate.targets()):
            by_seed[seed] = candidate
    if not by_seed:
        arguments = " ".join(item for item in config.overrides)
        raise ArtifactError(f"there is nothing to report yet; run:  python pipeline.py {arguments}")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / SEEDS, json.dumps(sorted(by_seed)) + "\n")
    summary = summarise(store, config.name, config.student.name, by_seed)
    shown = config.seed if config.seed in by_seed else min(by_seed)
    page = folder / "index.html"
    write_text(page, render_page(summary, store, by_seed[shown], shown))
    console.print(comparison_table(summary))
    console.print(Text(f"report: {page}"))
    return page


def report_folder(config: Config, arms: list[Config]) -> Path:
    """One folder for all seeds of one comparison."""
    targets = comparison([replace(arm, seed=0) for arm in arms]).targets()
    key = hashlib.sha256(" ".join(node.key for node in targets).encode()).hexdigest()[:10]
    return Path(config.artifacts) / "reports" / f"{config.name}.{config.student.name}-{key}"
