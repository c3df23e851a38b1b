"""The comparison as a table for the terminal."""

from __future__ import annotations

from rich.table import Table

from micota.report.collect import Row, Summary
from micota.statistics import Difference, Estimate


def comparison_table(summary: Summary) -> Table:
    """Arms by accuracy per benchmark, average with its interval, length, BPC and difference to the untouched student."""
    seeds = f"{len(summary.seeds)} seed{'s' if len(summary.seeds) > 1 else ''}"
    table = Table(title=f"{summary.name}: {summary.student}, accuracy in %, {seeds}", title_justify="left")
    table.add_column("arm")
    for bench in summary.benchmarks:
        table.add_column(bench, justify="right")
    for title in ("average [95 %]", *(["sd of seeds"] if len(summary.seeds) > 1 else []), "tokens", "BPC of data"):
        table.add_column(title, justify="right")
    table.add_column("against instruct, paired")
    for arm in summary.arms:
        table.add_row(*_cells(arm, summary), style="bold" if arm.name == "micota" else None)
    table.add_section()
    weights = sorted(summary.curve)
    shown = {0.0: "TA before SFT", 1.0: "TA after SFT"}
    for weight in weights:
        title = shown.get(weight, f"TA merged, weight {weight:g}")
        table.add_row(*_cells(summary.curve[weight], summary, title), style="dim")
    table.add_row(*_cells(summary.teacher, summary), style="dim")
    return table


def _cells(row: Row, summary: Summary, title: str | None = None) -> list[str]:
    seed_sd = [] if len(summary.seeds) == 1 else ["-" if row.seed_sd is None else f"{100 * row.seed_sd:.1f}"]
    return [
        title or row.name,
        *(f"{100 * row.by_benchmark[bench].value:.1f}" for bench in summary.benchmarks),
        interval(row.average),
        *seed_sd,
        f"{row.num_tokens:.0f}",
        "-" if row.bits_per_byte is None else f"{row.bits_per_byte:.3f}",
        "" if row.difference is None else verdict(row.difference),
    ]


def interval(estimate: Estimate) -> str:
    """``82.3 [79.8, 84.8]`` in percent."""
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def verdict(difference: Difference) -> str:
    """The difference in points, and in words whether it is real."""
    size = f"{100 * difference.value:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    if not difference.is_distinguishable:
        return f"{size}, not distinguishable (p = {difference.p_value:.2f})"
    return f"{size}, p {'< 0.001' if difference.p_value < 0.001 else f'= {difference.p_value:.3f}'}"
