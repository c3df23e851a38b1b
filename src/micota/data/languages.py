"""The language of prose between formulas."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]*\$|\\\[.*?\\\]|\\\(.*?\\\)|```.*?```|\\[A-Za-z]+|https?://\S+", re.DOTALL)
EAST_ASIAN = re.compile(r"([\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]+)")
PIECE = 200  # letters that are classified together; fewer are classified less reliably
FEWEST = 20  # letters of an alphabet; below, variables and names decide


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)


def languages() -> list[str]:
    """The codes (ISO 639) of the languages that are known."""
    return sorted(map(str, _identifier().labels))


def letters_by_language(text: str) -> Counter[str]:
    """The number of letters in each language, without formulas, code and pieces too short to tell."""
    counts: Counter[str] = Counter()
    for piece, num_letters in _pieces(FORMULA.sub(" ", text)):
        if num_letters >= FEWEST or EAST_ASIAN.search(piece):
            counts[_identifier().classify(piece)[0]] += num_letters
    return counts


def _pieces(text: str) -> Iterator[tuple[str, int]]:
    """Pieces of about ``PIECE`` letters with the number of their letters; East Asian scripts apart from others, since a
    few characters of them within a long English text would be outvoted."""
    parts = EAST_ASIAN.split(text)
    for script in (" ".join(parts[::2]), " ".join(parts[1::2])):
        words: list[str] = []
        num_letters = 0
        for word in script.split():
            words.append(word)
            num_letters += sum(map(str.isalpha, word))
            if num_letters >= PIECE:
                yield " ".join(words), num_letters
                words, num_letters = [], 0
        if num_letters:
            yield " ".join(words), num_letters
