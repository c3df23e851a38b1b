"""The files of a model folder beside its weights: configs and tokenizer, as the model at its source has them.

transformers 5 writes configs and tokenizers in a form that transformers 4 cannot read, or reads wrongly: it takes the
rotary base for its default where ``rope_theta`` is missing. So the files of the source are copied, with the few values
that an export changes. Files that transformers 5 wrote get the names of transformers 4 beside or instead of theirs;
transformers 5 reads both.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer
from transformers.utils.hub import cached_file

Location = tuple[str, str | None]  # folder or hub id, and revision

CONFIG, GENERATION_CONFIG, TOKENIZER_CONFIG = "config.json", "generation_config.json", "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
TOKENIZER_FILES = (
    TOKENIZER_CONFIG, "tokenizer.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json", TEMPLATE,
    "chat_template.json",
)  # fmt: skip
BACKENDS = ("TokenizersBackend", "PythonBackend")  # classes that only transformers 5 has
# Settings of sampling, with the value that has no effect.
GREEDY = {"temperature": 1.0, "top_p": 1.0, "top_k": 50, "min_p": None, "typical_p": 1.0}
OF_VERSION_5 = ("backend", "is_local", "local_files_only")  # keys that describe how a tokenizer was loaded


def source_file(source: Location, name: str) -> Path | None:
    """A file of a model folder, or of the hub's cache; None if the model has no such file, or no network is there."""
    path = cached_file(
        source[0], name, revision=source[1], _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False, _raise_exceptions_for_gated_repo=False,
    )  # fmt: skip
    return None if path is None else Path(path)


def write_config(config: Any, source: Location | None, folder: Path) -> None:
    """Write config.json: that of the source with eos, padding, cache and dtype of ``config``. Where the source has
    another class of model, everything is of ``config``."""
    config.save_pretrained(folder)
    written = _read(folder / CONFIG)
    known = _read(source_file(source, CONFIG)) if source else {}
    if all(known.get(key) == written.get(key) for key in ("model_type", "architectures")):
        changed = {key: written.get(key) for key in ("eos_token_id", "pad_token_id", "use_cache")}
        dtype = (
            {key: written["dtype"] for key in ("dtype", "torch_dtype") if key in known} if "dtype" in written else {}
        )
        written = known | changed | (dtype or {"dtype": written.get("dtype")})
    if "quantization_config" not in config.to_dict():  # the source was quantised, and the written weights are not
        written.pop("quantization_config", None)
    _write(folder / CONFIG, with_rope(written))


def with_rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the rotary settings under the keys of transformers 4 too, as ``rope_theta``."""
    every = {key: with_rope(value) if key == "text_config" else value for key, value in config.items()}
    rope = every.get("rope_parameters")
    if not isinstance(rope, Mapping):
        return every
    if all(isinstance(value, Mapping) for value in rope.values()):  # one for each type of attention layer
        if "sliding_attention" in rope:
            every.setdefault("rope_local_base_freq", rope["sliding_attention"].get("rope_theta"))
        rope = rope.get("full_attention", {})
    if "rope_theta" in rope:
        every.setdefault("rope_theta", rope["rope_theta"])
    if rope.get("rope_type", "default") != "default":
        every.setdefault("rope_scaling", {key: value for key, value in rope.items() if key != "rope_theta"})
    return every


def write_generation_config(generation_config: Any, source: Location | None, folder: Path) -> None:
    """Write generation_config.json: that of the source with the eos and padding of ``generation_config``. One that
    samples by its settings and has no ``do_sample``, which transformers refuses to save, gets ``do_sample: true``."""
    known = _read(source_file(source, GENERATION_CONFIG)) if source else {}
    ids = {key: getattr(generation_config, key) for key in ("eos_token_id", "pad_token_id")}
    written = (known or generation_config.to_diff_dict()) | ids
    if not written.get("do_sample") and any(written.get(key) not in (None, off) for key, off in GREEDY.items()):
        written["do_sample"] = True
    _write(folder / GENERATION_CONFIG, written)


def write_tokenizer(tokenizer: Any, source: Location | None, folder: Path) -> None:
    """Write the tokenizer: the files of the source, and its chat template where ``tokenizer`` has another one.

    Where ``tokenizer`` differs from that of the source in more than the template, transformers writes it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: path for name in TOKENIZER_FILES if source and (path := source_file(source, name)) is not None}
    for name, path in files.items():
        shutil.copyfile(path, folder / name)
    if TOKENIZER_CONFIG not in files or not _agree(folder, tokenizer):
        for name in files:
            (folder / name).unlink()
        tokenizer.save_pretrained(folder)
    elif isinstance(tokenizer.chat_template, str) and tokenizer.chat_template != _template(folder):
        (folder / TEMPLATE).write_text(tokenizer.chat_template, encoding="utf-8")
        settings = _read(folder / TOKENIZER_CONFIG)
        if "chat_template" in settings:  # readers without the file of its own take this one
            _write(folder / TOKENIZER_CONFIG, settings | {"chat_template": tokenizer.chat_template})
    settings = _read(folder / TOKENIZER_CONFIG)
    if (portable := portable_tokenizer(settings)) != settings:
        _write(folder / TOKENIZER_CONFIG, portable)


def _agree(folder: Path, tokenizer: Any) -> bool:
    """Whether the tokenizer of a folder has the tokens and the special tokens of ``tokenizer``."""
    again: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return bool(again.get_vocab() == tokenizer.get_vocab() and again.special_tokens_map == tokenizer.special_tokens_map)


def _template(folder: Path) -> str | None:
    """The chat template of a tokenizer's files."""
    if (folder / TEMPLATE).exists():
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    template: str | None = _read(folder / TOKENIZER_CONFIG).get("chat_template")
    return template


def portable_tokenizer(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a tokenizer for transformers 4 and 5: class and keys that both know."""
    portable = {key: value for key, value in settings.items() if key not in OF_VERSION_5}
    if portable.get("tokenizer_class") in BACKENDS:
        portable["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(portable.get("extra_special_tokens"), list):  # of transformers 4 a dict of named tokens
        portable["additional_special_tokens"] = portable.pop("extra_special_tokens")
    return portable


def _read(path: Path | None) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
