"""The tokenizer of the toy Qwen2 students: read back as Qwen2's, lossless, one token for each piece of the task."""

import random
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, Qwen2Tokenizer

from micota.tiny.byte_tokenizer import EOS, PAD, build_tokenizer, pieces
from micota.tiny.task import sample_question, write_long, write_short


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer().save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def test_transformers_reads_it_as_qwen2s(loaded: Any) -> None:
    assert isinstance(loaded, Qwen2Tokenizer)
    assert loaded.get_vocab() == build_tokenizer().get_vocab()
    assert (loaded.pad_token, loaded.eos_token, loaded.padding_side) == (PAD, EOS, "left")
    assert sorted(loaded.get_vocab().values()) == list(range(len(loaded)))


def test_each_piece_is_one_token(loaded: Any) -> None:
    assert {piece: len(loaded(piece)["input_ids"]) for piece in pieces()} == dict.fromkeys(pieces(), 1)


def test_texts_of_the_task_are_words_digits_and_marks(loaded: Any) -> None:
    rng = random.Random(0)
    for _ in range(50):
        question = sample_question(rng, rng.randint(1, 8))
        for text in (question.problem + "\n", write_short(question) + EOS, write_long(question, rng) + EOS):
            tokens = loaded(text)["input_ids"]
            assert loaded.decode(tokens) == text
            assert all(len(loaded.decode(token)) == 1 or loaded.decode(token) in (EOS, *pieces()) for token in tokens)


@pytest.mark.parametrize("text", ["Hé ∑ x²", "  a\n\n\tb ", "{'don't': 123}", "漢字 🙂"])
def test_no_text_is_lost(loaded: Any, text: str) -> None:
    assert loaded.decode(loaded(text)["input_ids"]) == text


def test_chat_template(loaded: Any) -> None:
    chat = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}]
    assert loaded.apply_chat_template(chat, tokenize=False) == f"a?\nb{EOS}"
