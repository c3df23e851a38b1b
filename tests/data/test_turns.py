from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoTokenizer

from micota.data.sources import model_folder
from micota.data.turns import TurnEnd, end_of_turn, end_within, without_end
from micota.errors import ConfigError

# What each family writes around a turn; the rest of their templates plays no part here.
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
GEMMA = "{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"
)
LLAMA2 = "{% for m in messages %}{{ m.content if m.role == 'user' else ' ' + m.content + ' ' + eos_token }}{% endfor %}"
PLAIN = "{% for m in messages %}{{ m.content }}\n\n{% endfor %}"


def tokenizer_with(template: str | None, *tokens: str) -> Any:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(("template", "tokens", "expected"), [
    (CHATML, ("<|im_start|>", "<|im_end|>"), "<|im_end|>"),
    (GEMMA, ("<start_of_turn>", "<end_of_turn>"), "<end_of_turn>"),
    (PHI, ("<|end|>", "<|end|>\n"), "<|end|>"),
    (PHI, ("<|end|><eos>", "<|end|>"), "<|end|><eos>"),
    (LLAMA2, (), "<eos>"),
])  # fmt: skip
def test_the_end_of_a_turn_is_what_the_template_writes_after_it(
    template: str, tokens: tuple[str, ...], expected: str
) -> None:
    tokenizer = tokenizer_with(template, *tokens)
    assert end_of_turn(tokenizer) == TurnEnd(expected, tokenizer.convert_tokens_to_ids(expected), from_template=True)


@pytest.mark.parametrize("template", [PLAIN, CHATML, None, "{{ raise_exception('no') }}", "{{ messages[0].content }}"])
def test_without_a_token_at_the_end_it_is_eos(template: str | None) -> None:
    tokenizer = tokenizer_with(template)
    assert end_of_turn(tokenizer) == TurnEnd("<eos>", tokenizer.eos_token_id, from_template=False)
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match=r"has no eos_token, and its chat template ends a turn in no token"):
        end_of_turn(tokenizer)


def test_ends_that_a_text_has_already_are_removed() -> None:
    tokenizer = tokenizer_with(CHATML, "<|im_end|>")
    end = end_of_turn(tokenizer)
    for text in ("4<|im_end|>", "4<|im_end|>\n", "4<|im_end|><eos>", "4<|im_end|>\n<|im_end|>"):
        assert without_end(text, tokenizer, end) == "4"
    for text in ("4\n", "<|im_end|> 4", "4 "):
        assert without_end(text, tokenizer, end) == text


def test_an_end_within_a_text_is_seen() -> None:
    tokenizer = tokenizer_with(CHATML, "<|im_end|>")
    end = end_of_turn(tokenizer)
    assert end_within("4 and<|im_end|>\nmore", tokenizer, end) == "<|im_end|>"
    assert end_within("<eos>4", tokenizer, end) == "<eos>"
    assert end_within("4 and <|im_start|>", tokenizer, end) is None
