r"""The tokenizer of the toy Qwen2 students: that of Qwen2 (byte-level BPE) with a toy vocabulary.

transformers reads the tokenizer of every Qwen2 folder as this class, whose rule to split texts is fixed: single digits,
a word with the space before it, marks with the line break after them. So only the vocabulary is free. It has all 256
bytes, so that no text is lost, and each piece of the task as one token; any other text takes a token per byte or so.
"""

from __future__ import annotations

from typing import Any

import transformers
from tokenizers.pre_tokenizers import ByteLevel

from micota.tiny.task import ITEMS, NAMES, OPERATORS
from micota.tiny.tokenizer import MAX_LENGTH

hf: Any = transformers  # its constructors are not annotated

PAD, EOS = "<|endoftext|>", "<|im_end|>"
"""As Qwen2.5-Instruct has them."""

# A user message ends with a newline, an assistant message with the end token, and nothing stands between them.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}{{ message['content'] + eos_token }}"
    "{%- else -%}{{ message['content'] + '\\n' }}{%- endif -%}"
    "{%- endfor -%}"
)


def pieces() -> list[str]:
    r"""The texts of more than one byte into which Qwen2's rule splits texts of the task.

    Words without a space come first, as merges of their letters are part of those with one.
    """
    first_words = ["Okay", "First", "Next", "Finally", "Check", *NAMES, "Wait", "Hmm"]
    spaced = ["has", "mod", "let", "me", "think", "so", "ok", "again", *ITEMS]
    marks = [*(f":{operator}" for operator in OPERATORS), *(f" {operator}" for operator in OPERATORS), ".\n", "?\n"]
    return [*first_words, *(f" {word}" for word in [*NAMES, "Wait", "Hmm", *spaced]), "\\boxed", *marks]


def merges() -> list[tuple[str, str]]:
    """The merges that make each piece one token, in the order in which the pieces stand.

    A piece grows from the left, one byte a merge: its first bytes are those of no other piece's middle. A word with a
    space is the space and the word, where the word is a piece too.
    """
    made: dict[tuple[str, str], None] = {}
    tokens: set[str] = set()
    for piece in pieces():
        [(letters, _)] = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(piece)
        if letters[1:] in tokens:
            made[letters[0], letters[1:]] = None
        else:
            made |= {(letters[:end], letters[end]): None for end in range(1, len(letters))}
        tokens |= {left + right for left, right in made}
    return list(made)


def build_tokenizer() -> Any:
    """The tokenizer with its chat template, ready for ``save_pretrained``; the two special tokens have the last ids."""
    tokens = [*sorted(ByteLevel.alphabet()), *(left + right for left, right in merges())]
    return hf.Qwen2Tokenizer(
        vocab={token: index for index, token in enumerate(dict.fromkeys(tokens))},
        merges=merges(),
        unk_token=PAD,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )
