"""The tool compare: finished evaluations against each other, paired by problem."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from micota.analysis.intervals import Estimate
from micota.analysis.statistics import Difference
from micota.artifacts.inventory import take
from micota.artifacts.jsonl import write_text
from micota.cli.arguments import tool_parser
from micota.config import TOOLS, override_key
from micota.console import WideTable, new_table, open_console, print_table
from micota.errors import ERROR, USER_ERROR, ConfigError, is_users, text_of
from micota.report.evaluations import Evaluation, Pairing, evaluation, pairings
from micota.report.table import interval, p_text, signed

WIDTH = 80
FORMS = {
    "A B": "two evaluations: a recipe (micota), a model (tiny_student+micota), NAME-KEY or key of scores, a folder of "
    "scores, or a file that evaluate grade=FILE wrote",
    "A B C ...": "each pair of several, corrected for the number of comparisons",
    "baseline=A": "each of the others against A alone",
    "top=2": "only the most accurate ones, as many as the number",
    "page=FILE": "also a page of the answers on which they differ, as chats; of one evaluation alone, those on which "
    "graders differ",
    "artifacts=FOLDER": "the folder; else $MICOTA_ARTIFACTS, or ./artifacts",
    "--json": "the numbers as JSON",
}
OPTIONS = ("artifacts", "baseline", "top", "page")


def run(words: Sequence[str]) -> int:
    """Run the tool with the words after its name; returns the exit code."""
    try:
        given = _read(words)
        if given is not None:
            _run(given, open_console())
    except Exception as error:
        if not is_users(error):
            raise
        print(f"{ERROR}{text_of(error)}", file=sys.stderr)
        return USER_ERROR
    return 0


def _read(words: Sequence[str]) -> argparse.Namespace | None:
    """The words of the command line; None after ``--help``.

    Raises:
        ConfigError: they are not accepted.
    """
    parser, refuse = tool_parser("compare", FORMS)
    given = parser.parse_intermixed_args(list(words))
    if given.help or not words:
        print(usage())
        return None
    # A path may contain "=": what is a file or folder is a name.
    options = [word for word in given.words if "=" in word and not Path(word).expanduser().exists()]
    for option in options:
        if override_key(option) not in OPTIONS:
            refuse(f"{option}")
    given.options = {override_key(option): option.partition("=")[2] for option in options}
    given.names = [word for word in given.words if word not in options]
    baseline = given.options.get("baseline")
    if baseline is not None and baseline not in given.names:
        given.names.append(baseline)
    if len(set(given.names)) < len(given.names):
        refuse(f"{' '.join(given.names)} has one name twice")
    if len(given.names) < 2 and "page" not in given.options:
        refuse(f"{len(given.names)} evaluation is named")
    top = given.options.get("top")
    if top is not None and (not top.isdecimal() or int(top) < 2):
        raise ConfigError(f"top={top}; accepted: a whole number from 2")
    return given


def usage() -> str:
    """The text of ``--help``."""
    tool = TOOLS["compare"]
    lines = [*textwrap.wrap(tool.about, WIDTH), "", *(f"  micota compare {example}" for example in tool.examples), ""]
    for name, about in FORMS.items():
        lines += textwrap.wrap(about, WIDTH, initial_indent=f"  {name:<18}", subsequent_indent=" " * 20)
    return "\n".join(lines)


def _run(given: argparse.Namespace, console: Console) -> None:
    root = Path(given.options.get("artifacts", os.environ.get("MICOTA_ARTIFACTS", "artifacts"))).expanduser()
    needs_folder = not all(Path(name).expanduser().exists() for name in given.names)
    inventory = take(root) if needs_folder or root.is_dir() else None
    evaluations = [evaluation(inventory, name) for name in given.names]
    made = compared(evaluations, given.options.get("baseline"), given.options.get("top"))
    if given.json:
        print(json.dumps([as_json(pairing) for pairing in made], indent=2))
    else:
        for table in tables(made):
            print_table(console, table)
        for one in made:
            console.print(Text(sentence(one)))
    if "page" in given.options:
        from micota.report.chats import chats_page

        write_text(page := Path(given.options["page"]).expanduser(), chats_page(evaluations, inventory))
        if not given.json:
            console.print(Text(f"page: {page}"), style="dim", soft_wrap=True)


def compared(evaluations: Sequence[Evaluation], baseline: str | None, top: str | None) -> list[Pairing]:
    """The pairings of evaluations, the more accurate one first where there is no baseline.

    Choosing the best of several and testing them alone would find differences by chance, so the correction is for all
    pairs, and the top ones are shown.
    """
    made = pairings(evaluations, baseline)
    if top is None:
        return made
    accuracy = {name: estimate for one in made for name, estimate in _averages(one).items()}
    best = sorted(accuracy, key=lambda name: -accuracy[name])[: int(top)]
    return [one for one in made if set(one.names) <= {*best, *([baseline] if baseline else [])}]


def _averages(made: Pairing) -> dict[str, float]:
    first, second = made.names
    return {first: made.first["average"].value, second: made.second["average"].value}


def tables(made: Sequence[Pairing]) -> list[WideTable]:
    """A table for each pairing: a row for each benchmark, and one for their average."""
    counts = {len(made): "averages", sum(len(one.by_benchmark) for one in made): "single benchmarks"}
    over = [f"{count} {what}" for count, what in counts.items() if count > 1]
    notes = [f"p by Holm, intervals by Bonferroni, over {' and over '.join(over)}"] if over else []
    left_out = sum(sum(one.num_left_out.values()) for one in made)
    notes += [f"{left_out} problems that one side lacks are left out"] if left_out else []
    shown = [_table(one) for one in made]
    if shown:
        shown[-1].caption = "; ".join(notes) or None
    return shown


def _table(made: Pairing) -> WideTable:
    first, second = made.names
    has_tally = bool(made.discordance)
    table = new_table(f"{first} - {second}: accuracy in % with 95 % intervals, paired by problem", together=3)
    table.add_column("benchmark", no_wrap=True)
    columns = ["problems", first, second, *(["only first / second"] if has_tally else []), "difference", "", "p"]
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for bench, difference in made.by_benchmark.items():
        table.add_row(*_cells(bench, made, difference))
    if len(made.by_benchmark) > 1:
        table.add_section()
        table.add_row(*_cells("average", made, made.difference), style="bold")
    return table


def _cells(bench: str, made: Pairing, difference: Difference) -> list[str]:
    tally = made.discordance.get(bench)
    solved = f"{tally.num_better} / {tally.num_worse}" if tally else ""
    return [
        bench,
        str(made.num_problems.get(bench, sum(made.num_problems.values()))),
        interval(made.first[bench]),
        interval(made.second[bench]),
        *([solved] if made.discordance else []),
        signed(difference),
        difference.label,
        p_text(difference.p_value).removeprefix("= "),
    ]


def sentence(made: Pairing) -> str:
    """The result of a pairing in words."""
    first, second = made.names
    overall = made.difference if len(made.by_benchmark) > 1 else next(iter(made.by_benchmark.values()))
    size = signed(overall).replace(" [", " points [")
    if overall.is_distinguishable:
        return f"{first} is {overall.label} than {second}: {size}, p {p_text(overall.p_value)}"
    result = f"{first} and {second} are not distinguishable: {size}, p {p_text(overall.p_value)}"
    if not overall.standard_error:  # one problem, or none that differs: the error is not known
        return result
    return f"{result}; a true difference of {100 * overall.detectable:.1f} would be detected in 4 of 5 repetitions"


def as_json(made: Pairing) -> dict[str, Any]:
    """A pairing as plain numbers, fractions from -1 to 1."""
    benches = {
        bench: {
            "problems": made.num_problems[bench],
            "left_out": made.num_left_out[bench],
            **_numbers(made, bench, difference),
        }
        for bench, difference in made.by_benchmark.items()
    }
    first, second = made.names
    return {
        "first": first,
        "second": second,
        "average": _numbers(made, "average", made.difference),
        "benchmarks": benches,
    }


def _numbers(made: Pairing, bench: str, difference: Difference) -> dict[str, Any]:
    def plain(estimate: Estimate) -> dict[str, float]:
        return {"value": estimate.value, "low": estimate.low, "high": estimate.high}

    return {
        "first": plain(made.first[bench]),
        "second": plain(made.second[bench]),
        "difference": plain(difference),
        "p_value": difference.p_value,
        "label": difference.label,
    }
