from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from micota.data.round_trip import check_round_trip
from micota.data.sources import model_folder
from micota.errors import ConfigError

TEXT = "The sum of 17 and 25 is 42.\n\n  So x = 42, caf\u00e9."


def byte_level(**parts: Any) -> Tokenizer:
    """A tokenizer as those of Llama 3 and Qwen."""
    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<eos>"], initial_alphabet=alphabet)  # type: ignore[call-arg]
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    return tokenizer


def test_a_tokenizer_that_gives_texts_back_is_accepted() -> None:
    right = PreTrainedTokenizerFast(tokenizer_object=byte_level(normalizer=normalizers.NFC()))
    check_round_trip(right, [TEXT, TEXT.replace("\u00e9", "e\u0301"), f"  {TEXT}", ""])
    check_round_trip(AutoTokenizer.from_pretrained(model_folder("bundled:ta")), ["Ana has 9 pens:+3 mod 10?\n9+3=2."])
    prefixed = pre_tokenizers.ByteLevel(add_prefix_space=True)  # as SentencePiece adds a space before a text
    check_round_trip(PreTrainedTokenizerFast(tokenizer_object=byte_level(pre_tokenizer=prefixed)), [TEXT])


def test_a_folder_that_loads_as_the_wrong_class_is_refused(tmp_path: Path) -> None:
    """As DeepSeek-R1-Distill-Llama: tokenizer.json is byte-level, and its config names the class of Llama 2."""
    byte_level().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    for name, is_right in (("PreTrainedTokenizerFast", True), ("LlamaTokenizerFast", False)):
        settings = {"tokenizer_class": name, "eos_token": "<eos>"}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
        if is_right:
            check_round_trip(tokenizer, [TEXT])
            continue
        words = rf"tokenizer of {tmp_path} \(class LlamaTokenizer\) does not give texts back: 'The sum of.*' becomes '"
        with pytest.raises(ConfigError, match=words):
            check_round_trip(tokenizer, [TEXT])


@pytest.mark.parametrize(("normalizer", "text"), [
    (normalizers.Lowercase(), "The sum"), (normalizers.NFKC(), "x²"), (normalizers.Strip(), "x\n"),
    (normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]), "café"),  # type: ignore[list-item]
])  # fmt: skip
def test_a_tokenizer_that_loses_signs_is_refused(normalizer: Any, text: str) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(normalizer=normalizer))
    with pytest.raises(ConfigError, match=r"does not give texts back: .* becomes "):
        check_round_trip(tokenizer, ["a = 1", text])
