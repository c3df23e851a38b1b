"""What the tokenizer files of a model on this machine show, without transformers: a plan reads them.

A model that is not here is looked up in the cache of the hub; what is in neither place shows nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from micota.data.sources import model_folder
from micota.data.unknown_words import can_encode
from micota.graph import SourceSpec

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
TEMPLATES = ("chat_template.jinja", "chat_template.json")
RARE = "\U000f1234"  # a character of private use, which no vocabulary has
Encode = Callable[[str], list[int]]


def has_chat_template(model: SourceSpec) -> bool | None:
    """Whether the tokenizer of a model has a chat template, or its config one; None where its files are not here."""
    if model.template is not None or any(_file(model.path, model.revision, name) for name in TEMPLATES):
        return True
    file = _file(model.path, model.revision, SETTINGS)
    if file is None:
        return None
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):  # the loading of the tokenizer names what is wrong with it
        return None
    return bool(settings.get("chat_template")) if isinstance(settings, dict) else None


def strict_encoder(model: SourceSpec) -> Encode | None:
    """The function from texts to tokens of a model whose tokenizer has no token for unknown words, and raises for
    them; None for other tokenizers, and where the files are not here."""
    file = _file(model.path, model.revision, TOKENIZER)
    return None if file is None else _strict(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _file(path: str, revision: str | None, name: str) -> Path | None:
    """A file of a model: in its folder, or in the cache of the hub."""
    folder = Path(model_folder(path))
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(path, name, revision=revision)
    except HFValidationError:  # a name that the hub cannot have
        return None
    return Path(cached) if isinstance(cached, str) else None


@lru_cache(maxsize=8)
def _strict(file: Path, changed: int) -> Encode | None:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception:  # the library raises plain ones; the loading of the tokenizer names what is wrong with it
        return None

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    return None if can_encode(encode, RARE) else encode
