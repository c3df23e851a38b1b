"""The command evaluate: it samples and grades completions, or grades stored completions or a file of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from micota import graph
from micota.analysis.intervals import Estimate
from micota.analysis.shifts import KINDS, most_shifted
from micota.analysis.statistics import macro_average, problem_means
from micota.artifacts.jsonl import read_jsonl
from micota.artifacts.scores import read_scores
from micota.artifacts.store import Store
from micota.cli.grade_file import grade_file
from micota.config import EvaluateConfig, without_keys
from micota.console import WideTable, new_table, open_console, print_table
from micota.errors import ArtifactError
from micota.grading.scores import by_problem, summarise
from micota.graph.node import AnyNode
from micota.graph.specs import ScoresSpec
from micota.records import OUTCOMES, TOKEN_SHIFTS, Score, TokenShift
from micota.report.table import interval
from micota.runtime.execute import execute, mean_accuracy

MISSES = tuple(outcome for outcome in OUTCOMES if outcome != "correct")
NUM_TOKENS_SHOWN = 12
TOKEN_CHARS = 18


def evaluate(config: EvaluateConfig) -> float | None:
    """Make the scores or the rank shifts of the config and show them as tables. Returns the mean accuracy over
    benchmarks, for sweeps that optimise it."""
    if config.grade is not None:
        grade_file(config)
        return None
    console = open_console()
    targets = graph.evaluation(config)
    if config.regrade and not config.plan:
        forget_scores(config, targets)
    graded = [node for node in targets if isinstance(node.spec, ScoresSpec)]
    execute(config, "evaluate", targets, console, lambda store: mean_accuracy(store, graded))
    if config.plan:
        return None
    store = Store(config.artifacts)
    for table in [shift_table(store, node) for node in targets] if config.rank_shift else score_tables(store, targets):
        print_table(console, table)
    return mean_accuracy(store, graded)


def forget_scores(config: EvaluateConfig, targets: list[AnyNode]) -> None:
    """Take away finished scores, so that they are made again from the completions.

    Raises:
        ArtifactError: there are no completions; nothing is taken away.
    """
    store = Store(config.artifacts)
    graded = [node for node in targets if isinstance(node.spec, ScoresSpec)]
    for node in graded:
        completions = node.inputs["completions"]
        if not store.is_done(completions):
            again = config.call.line("evaluate", without_keys(config.overrides, {"regrade"}))
            raise ArtifactError(
                f"regrade=true needs completions {completions.name} ({completions.folder}), which do not exist; "
                f"sample them with:  {again}"
            )
    for node in graded:
        store.forget(node)


def score_tables(store: Store, targets: list[AnyNode]) -> list[WideTable]:
    """Accuracy and outcomes by benchmark; where rows have them, pass@k and maj@k, and accuracy by level and subject."""
    graded = [node for node in targets if isinstance(node.spec, ScoresSpec)]
    rows = {str(node.benchmark): read_scores(store.verified(node)) for node in graded}
    summaries = {bench: summarise(scores) for bench, scores in rows.items()}
    return [
        results_table(graded, rows, summaries),
        *([sampled_table(summaries)] if any("pass_at" in summary for summary in summaries.values()) else []),
        *(
            part_table(summaries, part)
            for part in ("level", "subject", "budget")
            if any(f"by_{part}" in summary for summary in summaries.values())
        ),
    ]


def sampled_table(summaries: Mapping[str, Mapping[str, Any]]) -> WideTable:
    """pass@k and maj@k by benchmark."""
    table = new_table(
        "of several samples, in % with 95 % intervals",
        "pass@k: one of k samples is right; maj@k: the most frequent answer of k samples is right",
    )
    table.add_column("benchmark", no_wrap=True)
    for column in ("k", "pass@k", "maj@k"):
        table.add_column(column, justify="right", no_wrap=True)
    for bench, summary in summaries.items():
        majority = summary.get("majority_at", {})
        for k, estimate in summary.get("pass_at", {}).items():
            table.add_row(bench, k, _interval(estimate), _interval(majority[k]) if k in majority else "-")
    return table


def part_table(summaries: Mapping[str, Mapping[str, Any]], part: str) -> WideTable:
    """Accuracy by level, subject or token budget."""
    table = new_table(f"by {part}, in % with 95 % intervals")
    table.add_column("benchmark", no_wrap=True)
    table.add_column(part, no_wrap=True)
    table.add_column("accuracy", justify="right", no_wrap=True)
    for bench, summary in summaries.items():
        for name, estimate in summary.get(f"by_{part}", {}).items():
            table.add_row(bench, name, _interval(estimate))
    return table


def _interval(estimate: Mapping[str, float]) -> str:
    return interval(Estimate(estimate["value"], estimate["low"], estimate["high"]))


def results_table(
    graded: Sequence[AnyNode], rows: Mapping[str, Sequence[Score]], summaries: Mapping[str, Mapping[str, Any]]
) -> WideTable:
    """Accuracy with interval, the counts of the other outcomes and the cost of a right answer, by benchmark."""
    num_samples = max(summary["num_samples"] for summary in summaries.values())
    graders = sorted({name for summary in summaries.values() for name in summary["graders"]})
    grader = graded[0].spec.grader
    measure = "accuracy" if num_samples == 1 else f"avg@{num_samples}"
    others = [name for name in graders if name != grader]
    table = new_table(
        f"{graded[0].name.rpartition('@')[0]}: {measure} in % with 95 % intervals, graded by {grader}",
        "where graders differ: disagreements.md beside the scores" if others else "",
    )
    table.add_column("benchmark", no_wrap=True)
    for column in (
        "problems",
        measure,
        "interval",
        *MISSES,
        "tokens",
        "tokens per right",
        *(f"by {n}" for n in others),
    ):
        table.add_column(column.replace("_", " "), justify="right", no_wrap=True)
    for bench, summary in summaries.items():
        table.add_row(
            bench,
            str(summary["num_problems"]),
            f"{100 * summary['accuracy']:.1f}",
            f"{100 * summary['low']:.1f} to {100 * summary['high']:.1f}",
            *(str(summary["outcomes"].get(outcome, 0)) for outcome in MISSES),
            f"{summary['num_tokens']:.0f}",
            "-" if summary["tokens_per_right"] is None else f"{summary['tokens_per_right']:.0f}",
            *(f"{100 * summary['graders'].get(name, 0):.1f}" for name in others),
        )
    if len(rows) > 1:
        average = macro_average({bench: problem_means(by_problem(scores)) for bench, scores in rows.items()})
        interval = f"{100 * average.low:.1f} to {100 * average.high:.1f}"
        table.add_section()
        table.add_row("average", "", f"{100 * average.value:.1f}", interval, style="bold")
    return table


def shift_table(store: Store, node: AnyNode) -> WideTable:
    """The most shifted tokens of one benchmark, by mean and by share."""
    shifts = read_jsonl(store.verified(node) / TOKEN_SHIFTS, TokenShift)
    manifest = store.manifest(node)
    assert manifest is not None
    kinds = ", ".join(f"{100 * manifest.metrics[f'share_{kind}']:.1f} % {kind}" for kind in KINDS)
    table = new_table(
        f"{node.name}: tokens that {node.inputs['model'].name} would not have chosen",
        f"{manifest.counts['tokens']} tokens: {kinds}; rank 0 is the first choice, shifted is 3 or more",
    )
    for column in ("by mean", "uses", "mean rank", "by share", "uses", "shifted"):
        table.add_column(column, justify="left" if column.startswith("by") else "right", no_wrap=True)
    by_mean, by_share = (most_shifted(shifts, by, limit=NUM_TOKENS_SHOWN) for by in ("mean_rank", "share_shifted"))
    means = [(_shown(row.text), str(row.count), f"{row.mean_rank:.2f}") for row in by_mean]
    shares = [(_shown(row.text), str(row.count), f"{100 * row.share_shifted:.1f} %") for row in by_share]
    for one, other in zip_longest(means, shares, fillvalue=("", "", "")):
        table.add_row(*one, *other)
    return table


def _shown(token: str) -> str:
    """A token with its spaces and line ends; both halves of the table must fit a terminal."""
    text = repr(token)
    return text if len(text) <= TOKEN_CHARS else f"{text[: TOKEN_CHARS - 4]}...{text[0]}"
