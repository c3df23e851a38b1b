"""What a command prints: on every terminal, and without keys where Hydra prints it."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout

from micota.secrets import redacted


def print_anywhere() -> None:
    """Let what the encoding of a terminal lacks be printed as escapes: in ASCII or Latin-1, every table has some."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def printing_no_keys(words: Sequence[str]) -> Iterator[None]:
    """With ``--cfg`` Hydra prints the config as it was typed, before anything is checked: print it without keys.

    Args:
        words: the arguments of the command.
    """
    if not any(word in ("-c", "--cfg") or word.startswith("--cfg=") for word in words):
        yield
        return
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        print(redacted(printed.getvalue()), end="")
