"""Multiple-choice problems: their options in an order that every run repeats, and the letter of the right one."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from typing import Any

from micota.errors import SourceError
from micota.seeding import seed_of

LETTERS = string.ascii_uppercase


def options_of(where: str, values: Sequence[Any], columns: Sequence[str]) -> list[str]:
    """Return the options of a problem, in the order of their columns; one column may hold a list.

    Raises:
        SourceError: there are fewer than 2 or more than 26, or one is empty; the text starts with ``where``.
    """
    if len(values) == 1 and isinstance(values[0], Sequence) and not isinstance(values[0], str):
        values = values[0]
    options = [str(value).strip() for value in values if value is not None]
    if not 2 <= len(options) <= len(LETTERS) or not all(options):
        raise SourceError(
            f"{where}: option_columns={list(columns)} hold {len(options)} options, as {str(options)[:80]}; "
            f"accepted: 2 to {len(LETTERS)} texts, none empty"
        )
    return options


def shuffled(options: Sequence[str], identity: str) -> list[str]:
    """Return options in an order that depends on the id of their problem alone."""
    order = list(range(len(options)))
    random.Random(seed_of("options", identity)).shuffle(order)
    return [options[index] for index in order]


def with_options(problem: str, options: Sequence[str], identity: str) -> str:
    """Return the text of a problem with its options below it, each after its letter."""
    lines = [f"({letter}) {option}" for letter, option in zip(LETTERS, shuffled(options, identity), strict=False)]
    return f"{problem.rstrip()}\n\n" + "\n".join(lines)


def right_letter(where: str, answer: str, options: Sequence[str], identity: str) -> str:
    """Return the letter of the right option, which ``answer`` names by its text, or by its letter or number (from 0) in
    the order of the columns.

    Raises:
        SourceError: it names none of them.
    """
    text = answer.strip()
    if text not in options and len(text) == 1 and text in LETTERS[: len(options)]:
        text = options[LETTERS.index(text)]
    elif text not in options and text.isdecimal() and int(text) < len(options):
        text = options[int(text)]
    if text not in options:
        raise SourceError(
            f"{where}: answer {answer!r}; accepted: the text, letter or number (from 0) of one of its options "
            f"({'; '.join(options)[:200]})"
        )
    return LETTERS[shuffled(options, identity).index(text)]
