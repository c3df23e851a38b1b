"""Finished experiments -> tables here and pages; every seed that was run with the same settings is in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from micota.artifacts.jsonl import write_text
from micota.artifacts.store import Store
from micota.cli import experiments
from micota.cli.dashboard import dashboard
from micota.cli.stopping import progress
from micota.config import Config, ReportConfig, without_keys
from micota.console import open_console, print_table
from micota.errors import ArtifactError
from micota.graph import CaseConfig, Experiment, experiment
from micota.report.collect import Summary, case_reports
from micota.report.rounds import rounds_table
from micota.report.stopping import stop_sentence
from micota.report.table import comparison_table, judge_table, part_table, published_table, sampled_table, top_sentence
from micota.runtime.plan import pending

SEEDS = "seeds.json"
PAGE = "index.html"


def run(config: ReportConfig) -> None:
    """Show the experiment that the config names: here, or with ``wandb=true`` in W&B."""
    if config.wandb:
        dashboard(config)
    else:
        report(config, experiments.cases(config))


def report(config: Config, cases: list[CaseConfig], console: Console | None = None) -> Path:
    """Show a table for each case, write one page of all and their tables beside it, and print where it is last.

    Raises:
        ArtifactError: the experiment has not been run, or the page cannot be written.
    """
    from micota.report.frames import export_files
    from micota.report.page import render_page  # plotly takes its time, which a plan need not wait for

    console = console or open_console()
    store = Store(config.artifacts)
    folder = report_folder(config, cases)
    by_seed = finished_seeds(config, cases, store, folder)
    if not by_seed:
        line = config.call.line("pipeline", without_keys(config.overrides, {"wandb"}))
        raise ArtifactError(f"there is nothing to report yet; run:  {line}")
    reports = case_reports(store, config.name, by_seed, config.compare.baseline, config.compare.stop)
    summaries = [case.summary for case in reports]
    _print_tables(console, summaries)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / SEEDS, json.dumps(sorted(by_seed)) + "\n")
        write_text(folder / PAGE, render_page(config.name, reports, store, config.seed, config.call))
        for name, text in export_files(summaries).items():
            write_text(folder / name, text)
    except OSError as error:
        raise ArtifactError(
            f"{error.filename or folder} cannot be written ({error.strerror}): the page is not there, the tables above "
            "are all; accepted: artifacts in a folder that can be written to"
        ) from error
    console.print(Text(f"report: {folder / PAGE}"))
    return folder / PAGE


def _print_tables(console: Console, summaries: Sequence[Summary]) -> None:
    for summary in summaries:
        print_table(console, comparison_table(summary))
        for sentence in filter(None, (top_sentence(summary), stop_sentence(summary.looks))):
            console.print(Text(sentence))
        for table in (sampled_table(summary), part_table(summary, "level"), part_table(summary, "subject")):
            if table is not None:
                print_table(console, table)
        for recipe, rounds in summary.rounds.items():
            print_table(console, rounds_table(recipe, rounds))
        if summary.judged:
            print_table(console, judge_table(summary))
    if any(summary.cells for summary in summaries):
        print_table(console, published_table(summaries))


def finished_seeds(config: Config, cases: list[CaseConfig], store: Store, folder: Path) -> dict[int, Experiment]:
    """The experiment at every seed, of this run and of those before it, at which it is finished; with a stopping rule,
    at its seeds in their order."""
    if config.compare.stop.seeds:
        return dict(progress(config, cases, store).by_seed)
    by_seed: dict[int, Experiment] = {}
    for seed in sorted({*reported_seeds(folder / SEEDS), config.seed}):
        candidate = experiment([case.at_seed(seed) for case in cases])
        if not pending(store, candidate.targets()):
            by_seed[seed] = candidate
    return by_seed


def reported_seeds(path: Path) -> list[int]:
    """The seeds that earlier reports of the experiment have.

    Raises:
        ArtifactError: the file is damaged.
    """
    try:
        seeds = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds):
        raise _damaged(path, f"it holds {str(seeds)[:40]!r}")
    return seeds


def _damaged(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        f"{path} is damaged ({reason}); accepted: a list of seeds, as [0, 1]. Correct it, or delete it and run the "
        "report again with each seed"
    )


def report_folder(config: Config, cases: list[CaseConfig]) -> Path:
    """One folder for all seeds of one experiment."""
    targets = experiment([case.at_seed(0) for case in cases]).targets()
    key = hashlib.sha256(" ".join(node.key for node in targets).encode()).hexdigest()[:10]
    name = f"{config.name}.{cases[0].config.student.name}" if len(cases) == 1 else config.name
    return Path(config.artifacts) / "reports" / f"{name}-{key}"
