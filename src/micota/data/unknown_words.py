"""Texts that a tokenizer has no tokens for: tokenizers of whole words without a token for unknown ones raise for them.

The toy models have such a tokenizer, and so what a user tries with other problems fails. The words are named.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from micota.visible import SURROGATE

_PIECE = re.compile(r"\w+|\S|\s")
NAMED = 4  # unknown words in an error
WORD_CHARS = 20
HINT = (
    "accepted: texts of words that it knows (the toy models know those of the toy problems alone, as 'Ana has 5 "
    "pens:+3 mod 10?'), or another model, as student=qwen1.5b"
)


def can_encode(encode: Callable[[str], Any], text: str) -> bool:
    """Whether a tokenizer has tokens for a text."""
    try:
        encode(text)
    except Exception as error:
        # The library tokenizers raises a plain Exception, and a TypeError for half of a character (a lone surrogate).
        if type(error) is Exception or (isinstance(error, TypeError | UnicodeError) and SURROGATE.search(text)):
            return False
        raise
    return True


def unknown_words(encode: Callable[[str], Any], text: str) -> list[str]:
    """The words and signs of a text that a tokenizer has no tokens for, in their order, each once; empty where it has
    tokens for all of it."""
    if can_encode(encode, text):
        return []
    unknown = [word for word in dict.fromkeys(_PIECE.findall(text)) if not can_encode(encode, word)]
    return unknown or [text]  # each word is known, and not beside its neighbours


def named(words: list[str]) -> str:
    """The first unknown words, in quotes."""
    shown = ", ".join(repr(word if len(word) <= WORD_CHARS else f"{word[:WORD_CHARS]}...") for word in words[:NAMED])
    return shown + (f" and {len(words) - NAMED} more" if len(words) > NAMED else "")


def no_tokens(name: object, words: list[str], what: str) -> str:
    """The line about a text, which ``what`` names, with words that the tokenizer of a model does not know."""
    return f"the tokenizer of {name} has no tokens for {named(words)} of {what}; {HINT}"
