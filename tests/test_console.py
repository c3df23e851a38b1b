"""Tables fit the terminal: what is too wide is cut into several below each other."""

from __future__ import annotations

import io
import os

import pytest
from rich.console import Console

from micota.console import WideTable, new_table, open_console, print_table, progress_bar


def table(num_columns: int = 3) -> WideTable:
    found = new_table("a title", "a caption that says what needs a word")
    found.add_column("name", no_wrap=True)
    for number in range(num_columns):
        found.add_column(f"column {number}", justify="right", no_wrap=True)
    found.add_row("first", *(f"{number}.5" for number in range(num_columns)), style="bold")
    found.add_row("last", *("" for _ in range(num_columns - 1)), "9")
    return found


def lines(shown: WideTable, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, soft_wrap=True)
    print_table(console, shown)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_table_that_fits_stays_whole() -> None:
    found = lines(table(), 80)
    assert found[0] == "a title" and found[-1] == "a caption that says what needs a word"
    assert [line.split() for line in found if "first" in line] == [["first", "0.5", "1.5", "2.5"]]


def test_one_too_wide_is_cut_with_its_first_column_and_says_everything() -> None:
    found = lines(table(20), 80)
    assert max(map(len, found)) <= 80
    assert sum(line.startswith("first") for line in found) >= 3
    words = " ".join(found).split()
    assert all(f"{number}.5" in words for number in range(20))
    assert sum(line.startswith("last") for line in found) == 1, "a row without cells says nothing"
    assert found.count("a title") == 1 and found.count("a caption that says what needs a word") == 1


def test_the_parts_of_a_table_are_alike_in_width() -> None:
    """Twelve columns of which eleven fit: no table of one column is left over."""
    parts = [line for line in lines(table(11), 115) if line.startswith("name")]
    assert [len(part.split()) // 2 for part in parts] in ([6, 5], [5, 6])


def test_title_and_caption_end_lines_at_words() -> None:
    shown = new_table("one two " * 9, "three four " * 9)
    shown.add_column("name")
    shown.add_row("x")
    found = lines(shown, 40)
    assert max(map(len, found)) <= 40
    assert set(" ".join(found).split()) >= {"one", "two", "three", "four", "name", "x"}
    known = {"one", "two", "three", "four", "name", "x"}
    assert all(word in known or set(word) == {"─"} for line in found for word in line.split()), "a word was cut"


def test_a_pipe_gets_tables_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert open_console().width > 1000
    monkeypatch.setitem(os.environ, "COLUMNS", "80")
    assert open_console().width == 80


def test_a_narrow_console_shows_every_count_in_full_and_cuts_the_notes() -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    bar = progress_bar(console)
    bar.add_task(
        "tiny_teacher@hard", total=300, completed=1, note="184 tokens each, 21 tokens/s, 0:43:25 left, 100 % accepted"
    )
    bar.add_task("tiny_ta+strong", total=189, completed=8, note="loss 0.242")
    console.print(bar.get_renderable())
    assert isinstance(console.file, io.StringIO)
    assert [line.rstrip() for line in console.file.getvalue().splitlines()] == [
        "tiny_teacher@hard   1/300 184 tokens each, 21 tokens/s, 0:43:25 left, 100 % acc…",
        "tiny_ta+strong      8/189 loss 0.242",
    ]
