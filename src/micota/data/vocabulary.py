"""Whether two tokenizers have one vocabulary."""

from __future__ import annotations

from typing import Any


def first_difference(one: Any, other: Any) -> tuple[int, str, str] | None:
    """The first id that is a token in both tokenizers, and another one; None where all agree. An id that only one has,
    as an added token, is none of the other's texts."""
    texts = [{number: text for text, number in tokenizer.get_vocab().items()} for tokenizer in (one, other)]
    shared = sorted(texts[0].keys() & texts[1].keys())
    return next(((each, texts[0][each], texts[1][each]) for each in shared if texts[0][each] != texts[1][each]), None)
