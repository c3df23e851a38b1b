"""An experiment's runs in W&B -> a workspace and a report there."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from micota.config import ReportConfig
from micota.console import open_console
from micota.tracking.dashboard import save


def dashboard(config: ReportConfig, console: Console | None = None) -> None:
    """Build both and print where they are."""
    console = console or open_console()
    benchmarks = {name: config.evaluation.sampling_of(name).num_samples for name in config.bench}
    for name, url in save(config.tracker, config.name, benchmarks).items():
        console.print(Text(f"{name}: {url}"))
