"""Texts that a terminal or a page would obey, with escapes instead."""

from __future__ import annotations

import re

# Control characters, signs of direction or without width, and what UTF-8 cannot encode; not line breaks and tabs.
NOT_SHOWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
SURROGATE = re.compile("[\ud800-\udfff]")  # half a letter, which UTF-8 cannot encode


def visible(text: str) -> str:
    """Return a text with control characters, and what UTF-8 cannot encode, as escapes."""
    return NOT_SHOWN.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
