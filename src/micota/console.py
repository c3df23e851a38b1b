"""The console: short output and progress bars. All other messages go to the log of the artifact."""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from micota.visible import NOT_SHOWN, visible

UNLIMITED = 10_000  # columns of a file or a pipe
WIDE = 140  # columns from which a bar fits beside the words
PROGRESS = "progress.json"  # in the folder of an artifact that is being made
WRITE_EVERY_S = 1.0
REPORT_EVERY_S = 60.0


def quieten() -> None:
    """Keep notes of libraries off the console."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # its import sets the level of its logger by this
    warnings.filterwarnings("ignore", module="cma|lightning|torch|transformers|mergekit|wandb")
    logging.captureWarnings(True)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it prints each retry of a request to the console
    for name in ("httpx", "httpcore"):  # a line for each request, with its address
        logging.getLogger(name).setLevel(logging.WARNING)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    if not any(isinstance(handler, logging.NullHandler) for handler in root.handlers):
        root.addHandler(logging.NullHandler())  # or logging would print warnings where no other handler is


def open_console() -> Console:
    """A console as wide as the terminal. A file or a pipe gets whole tables, unless COLUMNS sets its width."""
    # Markup would take [red] and :smile: in a name for commands, and a name with [/x] for a mistake.
    style: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}
    console = PlainConsole(**style)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return PlainConsole(**style, width=UNLIMITED)


class PlainConsole(Console):
    """A console whose terminal obeys nothing within texts: control characters, and those that turn the direction of
    writing, are escapes there."""

    def render(self, *arguments: Any, **options: Any) -> Iterable[Segment]:
        return map(_plain, super().render(*arguments, **options))


def _plain(segment: Segment) -> Segment:
    if segment.control or not NOT_SHOWN.search(segment.text):
        return segment
    return Segment(visible(segment.text), segment.style)


class WideTable(Table):
    """A table that :func:`print_table` can cut. Its last ``together`` columns stay together."""

    together = 1


def new_table(title: str, caption: str = "", together: int = 1) -> WideTable:
    """A table in the common style, for :func:`print_table`."""
    table = WideTable(
        title=title or None, caption=caption or None, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    table.together = together
    return table


def print_table(console: Console, table: WideTable) -> None:
    """Print a table with its title above and its caption below. A table wider than the console is cut into several
    tables below each other, each with the first column."""
    if table.title:
        console.print(Text(str(table.title), "bold"), soft_wrap=False)
    for part in _parts(table, console):
        console.print(part)
        console.print()
    if table.caption:  # below the last empty line, to separate it from the next output
        console.print(Text(str(table.caption), "dim"), soft_wrap=False)


def _parts(table: WideTable, console: Console) -> list[Table]:
    """The table, or the fewest parts that fit: each has the first column. Parts are as narrow as their number allows,
    so that none is left with one column while others are full."""
    whole = list(range(len(table.columns)))
    if _width(_part(table, whole), console) <= console.width:
        return [_part(table, whole)]
    low, high = 1, console.width
    fewest = len(_cut(table, console, high))
    while low < high:  # the least width at which there are as few parts
        middle = (low + high) // 2
        low, high = (low, middle) if len(_cut(table, console, middle)) <= fewest else (middle + 1, high)
    return [_part(table, columns) for columns in _cut(table, console, high)]


def _cut(table: WideTable, console: Console, width: int) -> list[list[int]]:
    """The columns of each part, of which as many stand beside the first as fit into ``width``."""
    last = len(table.columns) - table.together
    groups = [[column] for column in range(1, last)] + [list(range(max(1, last), len(table.columns)))]
    parts, chosen = [], [0]
    for columns in groups:
        if len(chosen) > 1 and _width(_part(table, [*chosen, *columns]), console) > width:
            parts.append(chosen)
            chosen = [0]
        chosen += columns
    return [*parts, chosen]


def _part(table: Table, columns: Sequence[int]) -> Table:
    """Some columns of a table, without rows that are empty in them."""
    part = new_table("")
    cells = [list(column.cells) for column in table.columns]
    for column in (table.columns[index] for index in columns):
        part.add_column(column.header, justify=column.justify, no_wrap=column.no_wrap)
    for row, style in enumerate(table.rows):
        chosen = [cells[index][row] for index in columns]
        if set(chosen[1:]) - {"", "-"} or len(columns) == len(cells):
            part.add_row(*chosen, style=style.style, end_section=style.end_section)
    return part


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(max_width=UNLIMITED), table).maximum


class NoteColumn(ProgressColumn):
    """The note of a bar, on one line. It is the only column that rich may wrap, so a narrow console cuts it alone."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["note"], no_wrap=True, overflow="ellipsis")


class StageProgress(Progress):
    """A bar that other processes can read. In a file or a pipe it prints a line a minute.

    Args:
        folder: of the file with the state, for the command that started this one; None for no file.
    """

    def __init__(self, *columns: str | ProgressColumn, folder: Path | None, **how: Any) -> None:
        super().__init__(*columns, **how)
        self._folder = folder
        self._saved_at = 0.0
        self._printed = time.monotonic()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """See Progress. Also saves the state at most once a second and prints a line at most once a minute."""
        super().update(task_id, **changes)
        task, now = self._tasks[task_id], time.monotonic()
        state: dict[str, Any] = {"description": task.description, "completed": task.completed, "total": task.total}
        state["note"] = task.fields["note"]
        if self._folder is not None and now - self._saved_at >= WRITE_EVERY_S:
            self._saved_at = now
            draft = self._folder / f"{PROGRESS}.tmp"
            with suppress(OSError):  # a full disk stops the stage when it writes its results, not its progress
                draft.write_text(json.dumps(state), encoding="utf-8")
                os.replace(draft, self._folder / PROGRESS)
        if self._folder is not None and not self.console.is_terminal and now - self._printed >= REPORT_EVERY_S:
            self._printed = now
            self.console.print(Text(progress_line(**state)))


def progress_line(description: str, completed: float, total: float | None, note: str) -> str:
    """The state of a stage in words."""
    of = "" if total is None else f" of {total:.0f}"
    return f"{description}: {completed:.0f}{of}" + (f", {note}" if note else "")


def progress_bar(console: Console, folder: Path | None = None) -> Progress:
    """A progress bar that disappears at its end. With the ``folder`` of an artifact, other processes can read it."""
    is_wide = console.width >= WIDE
    return StageProgress(
        TextColumn("{task.description}", markup=False),
        *([BarColumn()] if is_wide else []),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        *([TimeElapsedColumn(), TimeRemainingColumn()] if is_wide else []),
        NoteColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # in a file or a pipe it would leave an empty line
        folder=folder,
    )
