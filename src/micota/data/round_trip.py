"""Whether a tokenizer gives texts back: one that loses spaces or letters would teach a model texts without them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

from micota.data.prompts import token_ids
from micota.errors import ConfigError

SHOWN = 60  # characters of a text in the error


def check_round_trip(tokenizer: Any, texts: Iterable[str]) -> None:
    """Refuse a tokenizer that does not give texts back: ``decode(encode(x)) == x``.

    White space at the start of a text may differ, since SentencePiece adds a space there, and so may the composition of
    letters and accents (NFC), which many tokenizers settle.

    Raises:
        ConfigError: the text names the tokenizer, its class, and the place where the texts part.
    """
    for text in texts:
        back = tokenizer.decode(
            token_ids(tokenizer, text), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        wanted, given = (unicodedata.normalize("NFC", value).lstrip() for value in (text, back))
        if wanted == given:
            continue
        pairs = enumerate(zip(wanted, given, strict=False))
        differs = next((place for place, (one, other) in pairs if one != other), min(len(wanted), len(given)))
        start = max(0, differs - SHOWN // 3)
        name = getattr(tokenizer, "name_or_path", "") or "the model"
        raise ConfigError(
            f"the tokenizer of {name} (class {type(tokenizer).__name__}) does not give texts back: "
            f"{wanted[start : start + SHOWN]!r} becomes {given[start : start + SHOWN]!r}; accepted: a tokenizer with "
            "decode(encode(text)) == text. Where tokenizer_config.json names a class that does not fit tokenizer.json, "
            'as in DeepSeek-R1-Distill-Llama, a copy of the folder with "tokenizer_class": "PreTrainedTokenizerFast" '
            "reads it right"
        )
