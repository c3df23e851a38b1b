"""Texts of others, which a terminal, a page, Markdown or a spreadsheet would obey, and escapes for them."""

from __future__ import annotations

import re

# Control characters, signs of direction or without width, and what UTF-8 cannot encode; not line breaks and tabs.
NOT_SHOWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # how a cell of CSV begins that a spreadsheet computes
SURROGATE = re.compile("[\ud800-\udfff]")  # half a letter, which UTF-8 cannot encode


def visible(text: str) -> str:
    """Return a text with control characters, and what UTF-8 cannot encode, as escapes."""
    return NOT_SHOWN.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def inline_code(text: str) -> str:
    """A text as code, between more backticks than it has in a row; also in a cell of a table."""
    text = " ".join(visible(text).splitlines())
    most = max(map(len, re.findall("`+", text)), default=0)
    fence, space = "`" * (most + 1), " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{fence}{space}{text.replace('|', chr(92) + '|')}{space}{fence}"


def plain_markdown(text: str) -> str:
    """A text in which nothing is a sign of Markdown or HTML; also in a cell of a table."""
    line = " ".join(visible(text).splitlines())
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", line)
