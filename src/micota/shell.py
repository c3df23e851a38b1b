"""Words as one line for a shell: what micota prints can be pasted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

# One word as this module writes it. Each alternative begins with another sign, so that a match takes linear time.
_WORD = r"""(?:[\w@%+=:,./-]|'[^']*'|"'"|\$'(?:[^'\\]|\\.)*')+"""
_OWN_LINE = re.compile(rf"(?:micota|python) {_WORD}(?: {_WORD})*", re.ASCII)
_NAMED = {"\n": r"\n", "\t": r"\t", "\r": r"\r", "\\": r"\\", "'": r"\'"}


def shell_line(words: Iterable[str]) -> str:
    """Words as a line of bash or zsh that has the same words again.

    The line has no line breaks, tabs or other characters that a terminal would obey: words with such ones are in
    ``$'...'``, where they are escapes.
    """
    return " ".join(map(quoted, words))


def is_own_line(line: str) -> bool:
    """Whether a line is one command of micota in the form of :func:`shell_line`, so that pasting it starts nothing
    else."""
    return line.isprintable() and _OWN_LINE.fullmatch(line) is not None


def quoted(word: str) -> str:
    """One word for a shell."""
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_escaped, word))}'"


def _escaped(sign: str) -> str:
    code = ord(sign)
    if sign in _NAMED or sign.isprintable():
        return _NAMED.get(sign, sign)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\U{code:08x}"
