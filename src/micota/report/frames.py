"""Results as data frames for notebooks, and their export as Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from micota.analysis.intervals import Estimate
from micota.analysis.relative import relative_improvement
from micota.report.case_figures import case_gap_differences
from micota.report.collect import Summary
from micota.report.rows import Row
from micota.report.style import METHOD
from micota.report.table import mark
from micota.visible import FORMULA


def scores_frame(summaries: Sequence[Summary]) -> pd.DataFrame:
    """Return all numbers: one row for each case, model and benchmark (and their ``average``), one column per axis.

    Accuracies, their 95 % intervals and their paired differences to the student before SFT are in percent (points).
    Values that were not measured are missing.
    """
    return pd.DataFrame([record for summary in summaries for record in _records(summary)])


def _records(summary: Summary) -> Iterator[dict[str, Any]]:
    for kind, label, row in all_rows(summary):
        labels = {
            "experiment": summary.name,
            "student": summary.student,
            **summary.labels,
            "model": label,
            "kind": kind,
        }
        for bench, estimate in {**row.by_benchmark, "average": row.average}.items():
            record = labels | {
                "benchmark": bench,
                "accuracy": 100 * estimate.value,
                "low": 100 * estimate.low,
                "high": 100 * estimate.high,
                "published": summary.published.get(label, {}).get(bench),
            }
            record |= _metrics(row, bench)
            if bench == "average":
                record |= _overall(row)
            yield record | {"num_seeds": row.num_seeds}


def published_frame(summaries: Sequence[Summary]) -> pd.DataFrame:
    """Return every published number that was measured: its verdict, and the measurement with its 95 % interval in
    percent. ``num_needed`` is about how many problems would tell the number from the nearest other one."""
    rows = [
        {
            "experiment": summary.name,
            "student": summary.student,
            **summary.labels,
            "model": cell.recipe,
            "benchmark": cell.benchmark,
            "published": cell.published,
            "verdict": cell.verdict,
            "accuracy": 100 * cell.estimate.value,
            "low": 100 * cell.estimate.low,
            "high": 100 * cell.estimate.high,
            "num_problems": cell.num_problems,
            "num_needed": cell.num_needed,
            "graded_by": cell.graded_by,
            "source": cell.source,
        }
        for summary in summaries
        for cell in summary.cells
    ]
    return pd.DataFrame(rows)


def relative_improvements(summary: Summary) -> list[tuple[str, str, Estimate]]:
    """Return each recipe, a recipe that it is compared with (the student before SFT, or the teacher's data) and its
    relative improvement on it, a fraction with a 95 % interval."""
    means = {row.name: row.means for row in summary.recipes}
    return [
        (recipe, baseline, improvement)
        for baseline in ("instruct", "strong")
        for recipe in means
        if baseline in means and recipe not in (baseline, "instruct")
        if (improvement := relative_improvement(means[recipe], means[baseline])) is not None
    ]


def relative_frame(summaries: Sequence[Summary]) -> pd.DataFrame:
    """Return the relative improvements of every case in percent, as the papers print some."""
    rows = [
        {"experiment": summary.name, "student": summary.student, **summary.labels, "recipe": recipe}
        | {
            "baseline": baseline,
            "improvement": 100 * improvement.value,
            "low": 100 * improvement.low,
            "high": 100 * improvement.high,
        }
        for summary in summaries
        for recipe, baseline, improvement in relative_improvements(summary)
    ]
    return pd.DataFrame(rows)


def gap_differences_frame(summaries: Sequence[Summary]) -> pd.DataFrame:
    """Return the differences of gaps between students, in points."""
    rows = [
        {
            "experiment": summaries[0].name,
            "gap": f"{tested.recipe} minus {tested.baseline}",
            "first": tested.first,
            "second": tested.second,
            "difference": 100 * tested.difference.value,
            "low": 100 * tested.difference.low,
            "high": 100 * tested.difference.high,
            "p_value": tested.difference.p_value,
        }
        for tested in case_gap_differences(summaries)
    ]
    return pd.DataFrame(rows)


def judge_frame(summaries: Sequence[Summary]) -> pd.DataFrame:
    """Return the counts of the steps of the judge pipeline: one row for each case, model and benchmark."""
    rows = [
        {"experiment": summary.name, "student": summary.student, **summary.labels, "model": row.model}
        | {"benchmark": row.benchmark, **asdict(row.steps), "by_rule": 100 * row.steps.by_rule}
        | {"rule_or_judge": 100 * row.steps.total}
        for summary in summaries
        for row in summary.judged
    ]
    return pd.DataFrame(rows)


def looks_frame(summaries: Sequence[Summary]) -> pd.DataFrame:
    """Return the looks of a stopping rule: one row for each case, recipe and look."""
    rows = [
        {"experiment": summary.name, "student": summary.student, **summary.labels, "recipe": recipe}
        | asdict(look)
        | {"decision": look.decision}
        for summary in summaries
        for recipe, found in summary.looks.items()
        for look in found
    ]
    return pd.DataFrame(rows)


def _metrics(row: Row, bench: str) -> dict[str, Any]:
    """Return pass@k, maj@k, accuracy by level and subject (percent), and the cost of a right answer."""
    parts: dict[str, Mapping[str, Mapping[Any, Estimate]]] = {
        "pass@": row.pass_at,
        "maj@": row.majority_at,
        "level ": row.by_level,
        "subject ": row.by_subject,
        "tokens <= ": row.by_budget,
    }
    cells: dict[str, Any] = {}
    for prefix, by_bench in parts.items():
        for key, estimate in by_bench.get(bench, {}).items():
            name = f"{prefix}{str(key).removeprefix('Level ')}"
            cells |= {
                name: 100 * estimate.value,
                f"{name} low": 100 * estimate.low,
                f"{name} high": 100 * estimate.high,
            }
    return cells | (asdict(row.costs[bench]) if bench in row.costs else {})


def _overall(row: Row) -> dict[str, Any]:
    """Return the values of a model over all benchmarks."""
    difference = row.difference
    tested = {} if difference is None else {"difference": difference.value, "difference_low": difference.low}
    tested |= {} if difference is None else {"difference_high": difference.high}
    return {
        **{name: 100 * value for name, value in tested.items()},
        "p_value": None if difference is None else difference.p_value,
        "seed_sd": None if row.seed_sd is None else 100 * row.seed_sd,
        "num_tokens": row.num_tokens,
        "bits_per_byte": row.bits_per_byte,
    }


def all_rows(summary: Summary) -> Iterator[tuple[str, str, Row]]:
    """Yield kind (recipe, ta or teacher), label and numbers of every model, in the order of the table."""
    for row in summary.recipes:
        yield "recipe", row.name, row
    for label, row in summary.ta_rows:
        yield "ta", label, row
    if summary.teacher is not None:
        yield "teacher", "teacher", summary.teacher


def results_table(summary: Summary) -> pd.DataFrame:
    """Return the main table as text, one row per model.

    Columns are accuracy in percent by benchmark, the average with its 95 % interval and the mark of the paired test
    against the student before SFT, tokens per answer, and BPC of the data. Published numbers are in brackets.
    """
    rows = {}
    for _, label, row in all_rows(summary):
        paper = {name: f" ({value:.1f})" for name, value in summary.published.get(label, {}).items()}
        cells = {
            bench: f"{100 * estimate.value:.1f}{paper.get(bench, '')}" for bench, estimate in row.by_benchmark.items()
        }
        sign = "" if row.difference is None else f" {mark(row.difference)}"
        half = 50 * (row.average.high - row.average.low)
        cells["average"] = f"{100 * row.average.value:.1f} ±{half:.1f}{sign}{paper.get('average', '')}"
        if row.seed_sd is not None:
            cells["sd of seeds"] = f"{100 * row.seed_sd:.1f}"
        cells["tokens"] = f"{row.num_tokens:.0f}"
        if row.bits_per_byte is not None:
            cells["BPC"] = f"{row.bits_per_byte:.3f}"
        rows[label] = cells
    order = [*summary.benchmarks, "average", "sd of seeds", "tokens", "BPC"]
    table = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    table.index.name = "recipe"
    return table[[column for column in order if column in table.columns]]


def to_markdown(table: pd.DataFrame) -> str:
    """Return a table of text in GitHub's Markdown, with numbers aligned to the right."""
    lines = [[table.index.name, *table.columns], ["---", *["--:"] * len(table.columns)]]
    lines += [[label, *cells] for label, cells in zip(table.index, table.to_numpy().tolist(), strict=True)]
    return "".join("| " + " | ".join(str(cell).replace("|", r"\|") for cell in line) + " |\n" for line in lines)


def to_latex(table: pd.DataFrame) -> str:
    r"""Return a table of text for LaTeX with booktabs; the method is bold, signs are math.

    It is a ``tabular`` without caption and label.
    """
    signs = {"±": r"$\pm$", "▲": r"$^{\uparrow}$", "▼": r"$^{\downarrow}$", "≈": r"$^{\approx}$"}
    style = table.rename_axis(index=None).style.format(escape="latex").format_index(escape="latex", axis=0)
    style = style.format_index(escape="latex", axis=1)
    bold = pd.IndexSlice[[label for label in table.index if label == METHOD], :]
    text: str = style.set_properties(subset=bold, textbf="--rwrap").to_latex(
        hrules=True, column_format="l" + "r" * len(table.columns)
    )
    for sign, command in signs.items():
        text = text.replace(sign, command)
    return text


def exports(summary: Summary) -> dict[str, str]:
    """Return one case for copying: the main table as Markdown and LaTeX, all its numbers as CSV."""
    table = results_table(summary)
    return {"Markdown": to_markdown(table), "LaTeX": to_latex(table), "CSV": to_csv([summary])}


def as_csv(table: Any) -> str:
    """A table as CSV. A text that a spreadsheet would compute gets an apostrophe, which makes it a text there."""

    def plain(value: Any) -> Any:
        return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value

    text: str = table.rename(columns=plain).map(plain).to_csv(index=False, float_format="%.6g")
    return text


def to_csv(summaries: Sequence[Summary]) -> str:
    """Return all numbers of some cases as CSV, as in :func:`scores_frame`."""
    text: str = as_csv(scores_frame(summaries))
    return text


def export_files(summaries: Sequence[Summary]) -> dict[str, str]:
    """Return the files that are written beside the page, by name: all cases in each format."""
    parts = [(summary.case_label, exports(summary)) for summary in summaries]
    tables = {
        "published.csv": published_frame(summaries),
        "judge.csv": judge_frame(summaries),
        "looks.csv": looks_frame(summaries),
        "relative.csv": relative_frame(summaries),
        "gap_differences.csv": gap_differences_frame(summaries),
    }
    return {name: as_csv(table) for name, table in tables.items() if not table.empty} | {
        "results.md": "\n".join(f"## {title}\n\n{texts['Markdown']}" for title, texts in parts),
        "results.tex": "\n".join(f"% {title}\n{texts['LaTeX']}" for title, texts in parts),
        "results.csv": to_csv(summaries),
    }
