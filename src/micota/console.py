"""What people see: a quiet console and progress bars; everything else goes to the log of the artifact."""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from collections.abc import Sequence
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
from rich.table import Column, Table
from rich.text import Text

UNLIMITED = 10_000  # columns of a file or a pipe
WIDE = 140  # columns from which there is room for a bar beside the words
PROGRESS = "progress.json"  # in the folder of an artifact that is being made
WRITE_EVERY_S = 1.0
REPORT_EVERY_S = 60.0


def quieten() -> None:
    """Keep notes of libraries off the console."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", module="lightning|torch|transformers|mergekit|wandb")
    logging.captureWarnings(True)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it prints each retry of a request to the console
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    if not any(isinstance(handler, logging.NullHandler) for handler in root.handlers):
        root.addHandler(logging.NullHandler())  # or logging would print warnings where no other handler is


def open_console() -> Console:
    """Where people look: as wide as the terminal. A file or a pipe gets tables whole, unless COLUMNS says its width."""
    console = Console(highlight=False, soft_wrap=True)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(highlight=False, soft_wrap=True, width=UNLIMITED)


class WideTable(Table):
    """A table that :func:`print_table` can cut, but for its last ``together`` columns, which stay with each other."""

    together = 1


def new_table(title: str, caption: str = "", together: int = 1) -> WideTable:
    """A table in the style of all our tables, for :func:`print_table`."""
    table = WideTable(
        title=title or None, caption=caption or None, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    table.together = together
    return table


def print_table(console: Console, table: WideTable) -> None:
    """Print a table with its title above and its caption below. One that is wider than the console is cut into several
    below each other, each with the first column."""
    if table.title:
        console.print(Text(str(table.title), "bold"), soft_wrap=False)
    for part in _parts(table, console):
        console.print(part)
        console.print()
    if table.caption:  # below the last empty line, so that what comes next is seen to be something else
        console.print(Text(str(table.caption), "dim"), soft_wrap=False)


def _parts(table: WideTable, console: Console) -> list[Table]:
    """The table, or as few as fit: each has the first column and as many of the others as there is room for."""
    last = len(table.columns) - table.together
    groups = [[column] for column in range(1, last)] + [list(range(max(1, last), len(table.columns)))]
    parts, chosen = [], [0]
    for columns in groups:
        if len(chosen) > 1 and _width(_part(table, [*chosen, *columns]), console) > console.width:
            parts.append(chosen)
            chosen = [0]
        chosen += columns
    return [_part(table, columns) for columns in [*parts, chosen]]


def _part(table: Table, columns: Sequence[int]) -> Table:
    """Some columns of a table, without the rows that say nothing in them."""
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
    """A bar that other processes can follow, and that in a file or a pipe is a line a minute.

    Args:
        folder: where the state is left for a command that started this one; None to leave none.
    """

    def __init__(self, *columns: str | ProgressColumn, folder: Path | None, **how: Any) -> None:
        super().__init__(*columns, **how)
        self._folder = folder
        self._written = 0.0
        self._printed = time.monotonic()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """See Progress; and pass it on, a file not more than once a second and a line not more than once a minute."""
        super().update(task_id, **changes)
        task, now = self._tasks[task_id], time.monotonic()
        state: dict[str, Any] = {"description": task.description, "completed": task.completed, "total": task.total}
        state["note"] = task.fields["note"]
        if self._folder is not None and now - self._written >= WRITE_EVERY_S:
            self._written = now
            draft = self._folder / f"{PROGRESS}.tmp"
            with suppress(OSError):  # of a full disk those are told who write what matters
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
    """A progress bar that leaves nothing behind. With the ``folder`` of an artifact, others can follow it."""
    is_wide = console.width >= WIDE
    return StageProgress(
        TextColumn("{task.description}"),
        *([BarColumn()] if is_wide else []),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        *([TimeElapsedColumn(), TimeRemainingColumn()] if is_wide else []),
        NoteColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # in a file or a pipe it would leave an empty line
        folder=folder,
    )
