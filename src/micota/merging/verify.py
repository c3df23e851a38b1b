"""Checks of a merged model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from micota.checkpoint import Checkpoint
from micota.errors import ConfigError
from micota.merging.models import Model

SAMPLE_TOKENS = 8
LOADED = {"cpu": 10**9}  # bytes of weights held in memory; the rest is read from disk on use


Conversation = list[dict[str, str]]  # chat messages


def verify(
    folder: Path, base: Model, tuned: Model, names: list[str], dtype: torch.dtype, conversation: Conversation
) -> str:
    """Check that a merged model has the tensors ``names`` of the base in ``dtype``, and all that :func:`check_model`
    does.

    Raises:
        ConfigError: a check fails; the text names what differs.
    """
    with Checkpoint.open(folder) as merged:
        expected = {name: (base.checkpoint.entries[name].shape, dtype) for name in names}
        actual = {name: (entry.shape, entry.dtype) for name, entry in merged.entries.items()}
    _same(folder, "tensors", actual, expected)
    return check_model(folder, base, tuned, conversation)


def check_model(folder: Path, base: Model, tuned: Model, conversation: Conversation) -> str:
    """Load a merged model by the transformers API and check it; returns the start of its answer to ``conversation``.

    All tensors that its config.json needs, ties, tokenizer, chat template and eos, and a few tokens of greedy
    generation with finite logits. Layers are loaded one at a time, so that a model larger than memory can be checked.

    Raises:
        ConfigError: a check fails; the text names what differs.
    """
    offloaded = folder / "offloaded"
    try:
        return _check_model(folder, base, tuned, conversation, offloaded)
    finally:
        shutil.rmtree(offloaded, ignore_errors=True)


def _check_model(folder: Path, base: Model, tuned: Model, conversation: Conversation, offloaded: Path) -> str:
    # transformers needs accelerate for a device map; peft requires it, so it is installed. Layers whose tensors it
    # converts, as experts that are fused, are written to ``offloaded`` where they do not fit in memory.
    model, loading = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype="auto",
        device_map="auto",
        max_memory=LOADED,
        offload_folder=offloaded,
        output_loading_info=True,
        trust_remote_code=False,
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        _same(folder, kind, sorted(loading[kind]), [])
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    _same(folder, "tokenizer", tokenizer.get_vocab(), tuned.tokenizer.get_vocab())
    _same(folder, "chat template", tokenizer.chat_template, tuned.tokenizer.chat_template)
    eos = model.generation_config.eos_token_id
    eos_ids = eos if isinstance(eos, list) else [eos]
    _same(folder, "eos of the generation config has the tokenizer's", tokenizer.eos_token_id in eos_ids, True)
    _same(folder, "tie_word_embeddings", model.config.get_text_config().tie_word_embeddings,
          base.config.get_text_config().tie_word_embeddings)  # fmt: skip
    return _sample(folder, model, tokenizer, conversation)


def _sample(folder: Path, model: Any, tokenizer: Any, conversation: Conversation) -> str:
    text = conversation[-1]["content"]
    if tokenizer.chat_template is not None:
        text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    ids = _known(tokenizer, text)
    with torch.inference_mode():
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=SAMPLE_TOKENS,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    if not all(torch.isfinite(logits).all() for logits in output.logits):
        raise ConfigError(f"{folder}: the merged model's logits are not finite; lower merge.weight")
    new = output.sequences[0, ids.shape[1] :]
    return str(tokenizer.decode(new, skip_special_tokens=False))


def _known(tokenizer: Any, text: str) -> torch.Tensor:
    """The tokens of a text, (1, length); the first eight words of the vocabulary where the tokenizer lacks a word."""
    ids: torch.Tensor
    try:
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=tokenizer.chat_template is None)["input_ids"]
    except Exception:  # tokenizers raises no narrower class for a missing word
        ids = torch.empty(1, 0)
    if ids.numel() == 0:
        known = [number for number in sorted(tokenizer.get_vocab().values()) if number not in tokenizer.all_special_ids]
        ids = torch.tensor([known[:SAMPLE_TOKENS]])
    return ids


def _same(folder: Path, what: str, actual: Any, expected: Any) -> None:
    if actual == expected:
        return
    if isinstance(actual, dict) and isinstance(expected, dict):
        name = min(key for key in actual.keys() | expected.keys() if actual.get(key) != expected.get(key))
        what, actual, expected = f"{what} ({name})", actual.get(name), expected.get(name)
    raise ConfigError(f"{folder}: {what} of the merged model: found {actual!r}, expected {expected!r}")
