"""The comparison as a table for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from micota.analysis.intervals import Estimate
from micota.analysis.statistics import Difference, Discordance
from micota.console import WideTable, new_table
from micota.report.collect import BASELINE, Summary
from micota.report.rows import Row, top_two
from micota.report.stopping import stop_sentence


def comparison_table(summary: Summary) -> WideTable:
    """Return the table of recipes: accuracy by benchmark, average, length, BPC, gain on the student before SFT."""
    seeds = "1 seed" if len(summary.seeds) == 1 else f"{len(summary.seeds)} seeds"
    measured = "accuracy in % with 95 % intervals" if summary.benchmarks else "bits per byte of the recipes' data (BPC)"
    title = f"{summary.title}, {measured}, {seeds}"
    table = new_table(title, _caption(summary), together=len(_verdict_columns(summary)) or 1)
    table.add_column("recipe", no_wrap=True)
    if not summary.benchmarks:
        table.add_column("BPC", justify="right", no_wrap=True)
        for name, bits_per_byte in summary.bits_per_byte.items():
            table.add_row(name, f"{bits_per_byte:.3f}")
        return table
    seed_sd = ["sd"] if len(summary.seeds) > 1 else []
    for column in (*summary.benchmarks, "average", *seed_sd, "tokens", "BPC"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in _verdict_columns(summary):
        table.add_column(column, justify="right", no_wrap=True)
    for recipe in summary.recipes:
        table.add_row(*_cells(recipe.name, recipe, summary), style="bold" if recipe.name == "micota" else None)
    table.add_section()
    for label, row in summary.ta_rows:
        table.add_row(*_cells(label, row, summary), style="dim")
    if summary.teacher is not None:
        table.add_row(*_cells("teacher", summary.teacher, summary), style="dim")
    return table


def sampled_table(summary: Summary) -> WideTable | None:
    """Return pass@k and maj@k by model and benchmark; None if no problem has several samples."""
    rows = [row for row in _models(summary) if row[1].pass_at]
    if not rows:
        return None
    table = new_table(
        f"{summary.title}, of several samples, in % with 95 % intervals",
        "pass@k: one of k samples is right; maj@k: the most frequent answer of k samples is right",
    )
    table.add_column("model", no_wrap=True)
    for column in ("benchmark", "k", "pass@k", "maj@k"):
        table.add_column(column, justify="left" if column == "benchmark" else "right", no_wrap=True)
    for name, row in rows:
        for bench, by_k in row.pass_at.items():
            majority = row.majority_at.get(bench, {})
            for k, estimate in by_k.items():
                voted = interval(majority[k]) if k in majority else "-"
                table.add_row(name, bench, str(k), interval(estimate), voted)
    return table


def part_table(summary: Summary, part: str) -> WideTable | None:
    """Return the accuracy by ``level`` or ``subject``: a row for each part of a benchmark, a column for each model;
    None if problems have no such label."""
    models = [(name, getattr(row, f"by_{part}")) for name, row in _models(summary) if getattr(row, f"by_{part}")]
    if not models:
        return None
    table = new_table(f"{summary.title}, by {part}, in % with 95 % intervals")
    table.add_column("benchmark", no_wrap=True)
    table.add_column(part, no_wrap=True)
    for name, _ in models:
        table.add_column(name, justify="right", no_wrap=True)
    parts = dict.fromkeys((bench, label) for _, by_bench in models for bench, one in by_bench.items() for label in one)
    for bench, label in parts:
        cells = [by_bench.get(bench, {}).get(label) for _, by_bench in models]
        table.add_row(bench, label, *("-" if cell is None else interval(cell) for cell in cells))
    return table


def _models(summary: Summary) -> list[tuple[str, Row]]:
    """The models of the comparison table in its order, by name."""
    teacher = [] if summary.teacher is None else [("teacher", summary.teacher)]
    return [*((recipe.name, recipe) for recipe in summary.recipes), *summary.ta_rows, *teacher]


def published_table(summaries: Sequence[Summary]) -> WideTable:
    """Return the table of published numbers: for each whether it is inside the interval here, with the measured one."""
    counts = Counter(cell.verdict for summary in summaries for cell in summary.cells)
    counted = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    table = new_table(
        f"{summaries[0].name}, published numbers against the 95 % intervals here: {counted}",
        "each cell: published, verdict, measured; cannot tell: with this number of problems the interval also contains "
        "the numbers of the table's other models",
    )
    table.add_column("model", no_wrap=True)
    columns = dict.fromkeys(cell.benchmark for summary in summaries for cell in summary.cells)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for summary in summaries:
        by_model: dict[str, dict[str, str]] = {}
        for cell in summary.cells:
            text = f"{cell.published:.1f} {cell.verdict} {100 * cell.estimate.value:.1f}"
            by_model.setdefault(cell.recipe, {})[cell.benchmark] = text
        for model, texts in by_model.items():
            table.add_row(f"{summary.case_label} {model}", *(texts.get(column, "-") for column in columns))
    return table


def judge_table(summary: Summary) -> WideTable:
    """Return the steps of the authors' judge pipeline by model and benchmark, in percent of the answers."""
    table = new_table(
        f"{summary.title}, the rule and then a judge, in % of the answers",
        "boxed: an answer was found; the judge sees those that the rule rejects; GSM8K has the rule alone",
    )
    table.add_column("model", no_wrap=True)
    for column in ("benchmark", "boxed", "rule", "judge adds", "undecided", "rule or judge"):
        table.add_column(column, justify="left" if column == "benchmark" else "right", no_wrap=True)
    for row in summary.judged:
        steps, whole = row.steps, 100 / row.steps.num_answers
        shares = (steps.num_boxed, steps.num_by_rule, steps.num_by_judge, steps.num_undecided)
        table.add_row(
            row.model, row.benchmark, *(f"{whole * share:.1f}" for share in shares), f"{100 * steps.total:.1f}"
        )
    return table


def headline(summary: Summary) -> str:
    """Return one sentence on the best recipe and whether it is better than the baseline; empty without scores."""
    if not summary.recipes:
        return ""
    best = max(summary.recipes, key=lambda recipe: recipe.average.value)
    result = f"{100 * best.average.value:.1f} % on average with {best.num_tokens:.0f} tokens per answer"
    if best.name == summary.baseline and len(summary.recipes) > 1:
        return f"No recipe is better than {_named(summary.baseline)}, which is right in {result}."
    sentence = f"Of {len(summary.recipes)} recipes, {best.name} is the most accurate: {result}"
    difference = best.difference
    if difference is None:
        return f"{sentence}."
    size = f"{100 * difference.value:.1f} points [{100 * difference.low:.1f}, {100 * difference.high:.1f}]"
    above = f"{sentence}, {size} above {_named(summary.baseline)}"
    if not difference.is_distinguishable:
        return f"{above}; the two cannot be distinguished (p = {difference.p_value:.2f})."
    return f"{above}; the two are distinguishable (p {p_text(difference.p_value)})."


def top_sentence(summary: Summary) -> str:
    """Return one sentence on the two most accurate recipes; empty for fewer than two."""
    top = top_two(summary.recipes)
    if top is None:
        return ""
    first, second, difference = top
    size = signed(difference).replace(" [", " points [")
    tested = f"p {p_text(difference.p_value)}, corrected for all pairs"
    if difference.is_distinguishable:
        return f"The best two: {first} is better than {second} by {size}, {tested}."
    return f"The best two, {first} and {second}, are not distinguishable: {size}, {tested}."


def sentences(summary: Summary) -> list[str]:
    """Return what the numbers say: the best recipe, the best two, and the looks of a stopping rule."""
    return [headline(summary), top_sentence(summary), stop_sentence(summary.looks)]


def _named(baseline: str) -> str:
    return f"the student before SFT ({baseline})" if baseline == BASELINE else baseline


def _cells(title: str, row: Row, summary: Summary) -> list[str]:
    seed_sd = [] if len(summary.seeds) == 1 else ["-" if row.seed_sd is None else f"{100 * row.seed_sd:.1f}"]
    return [
        title,
        *(f"{100 * row.by_benchmark[bench].value:.1f}" for bench in summary.benchmarks),
        f"{100 * row.average.value:.1f} ±{50 * (row.average.high - row.average.low):.1f}",
        *seed_sd,
        f"{row.num_tokens:.0f}",
        "-" if row.bits_per_byte is None else f"{row.bits_per_byte:.3f}",
        *_verdict_cells(row.difference, summary),
    ]


def _verdict_columns(summary: Summary) -> list[str]:
    """Return the columns that compare with the student before SFT; empty if there is nothing to compare."""
    differences = [recipe.difference for recipe in summary.recipes if recipe.difference is not None]
    if not differences:
        return []
    columns = [f"against {summary.baseline}, paired", "", "p"]
    return columns if all(difference.is_distinguishable for difference in differences) else [*columns, "detectable"]


def _verdict_cells(difference: Difference | None, summary: Summary) -> list[str]:
    columns = _verdict_columns(summary)
    if difference is None:
        return [""] * len(columns)
    size = signed(difference)
    p_value = "< 0.001" if difference.p_value < 0.001 else f"{difference.p_value:.3f}"
    is_known = difference.standard_error > 0  # with one problem, or none that differs, it is not
    detectable = f"{100 * difference.detectable:.1f}" if is_known and not difference.is_distinguishable else ""
    return [size, difference.label, p_value, detectable][: len(columns)]


def _caption(summary: Summary) -> str:
    """Return the explanation of the columns that need one."""
    columns = _verdict_columns(summary)
    notes = ["sd: standard deviation over seeds"] if len(summary.seeds) > 1 else []
    if columns and len([recipe for recipe in summary.recipes if recipe.difference is not None]) > 1:
        looks = ", and over looks" if summary.looks else ""
        notes.append(f"p by Holm, intervals by Bonferroni, over all recipes{looks}")
    if "detectable" in columns:
        notes.append("detectable: the true difference that is detected in 4 of 5 repetitions")
    return "; ".join(notes)


def interval(estimate: Estimate) -> str:
    """Return an estimate in percent, as ``82.3 [79.8, 84.8]``."""
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def signed(difference: Estimate) -> str:
    """Return a difference in points, as ``+2.3 [+0.2, +4.5]``."""
    return f"{100 * difference.value:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"


def verdict(difference: Difference) -> str:
    """Return the difference in points with its p-value; if it is not distinguishable, also the detectable one."""
    size = signed(difference)
    if not difference.is_distinguishable:
        detectable = f"; detectable: {100 * difference.detectable:.1f}" if difference.standard_error else ""
        return f"{size}, {difference.label} (p = {difference.p_value:.2f}{detectable})"
    return f"{size}, p {p_text(difference.p_value)}"


def mark(difference: Difference | Discordance) -> str:
    """Return one sign for the result of a paired test."""
    return {"better": "▲", "worse": "▼"}.get(difference.label, "≈")


def tally(discordance: Discordance) -> str:
    """Return ``+12 -3, better (p = 0.035)``: problems that only this recipe solves, that only the other solves, and
    McNemar's p."""
    counts = f"+{discordance.num_better} -{discordance.num_worse}"
    return f"{counts}, {discordance.label} (p {p_text(discordance.p_value)})"


def p_text(p_value: float) -> str:
    """Return ``= 0.031`` or ``< 0.001``."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"
