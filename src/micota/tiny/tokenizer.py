"""The word-level tokenizer of the toy setting: 58 tokens, lossless on texts of the task.

Every text of `task` splits into whole words, digits and marks; a mark keeps the space after it and a word the
space before it, so that joining the tokens gives the text back. Any other text is an error, never silently
lost.
"""

import re
from typing import Any

import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from micota.tiny.task import ITEMS, NAMES, OPERATORS

hf: Any = transformers  # its constructors are not annotated

PAD = "<pad>"
EOS = "<eos>"
PAD_ID = 0
EOS_ID = 1
MAX_LENGTH = 1024
"""Longest sequence of the bundled models, in tokens."""

# A user or system message ends with a newline, an assistant message with <eos>. Nothing stands between the
# problem and the solution, so there is no generation prompt to add.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}{{ message['content'] + eos_token }}"
    "{%- else -%}{{ message['content'] + '\\n' }}{%- endif -%}"
    "{%- endfor -%}"
)


def vocabulary() -> list[str]:
    """All 58 tokens; the position of a token is its id."""
    marks = ["\\boxed{", "}", "\n", *"0123456789", *OPERATORS, "=", "?", " ", ",", ", ", ".", ". ", ":", ": "]
    question_words = [*NAMES, *(f" {item}" for item in ITEMS), " has", " mod"]
    solution_words = ["Okay", "let", " me", " think", "First", "Next", "Finally", "so"]
    check_words = ["Wait", "Hmm", " ok", "Check", " again"]
    return [PAD, EOS, *marks, *question_words, *solution_words, *check_words]


def split_pattern() -> str:
    """A regular expression of all tokens, the longest first, so that any sequence of tokens splits into tokens again.

    The space after a mark belongs to the next word if that word exists only with a space: `, me` is `,` and ` me`.
    """
    tokens = sorted(vocabulary()[2:], key=len, reverse=True)
    spaced_words = "|".join(token.strip() for token in tokens if re.fullmatch(" [a-z]+", token))
    return "|".join(
        re.escape(token) + (f"(?!{spaced_words})" if re.fullmatch("[,.:] ", token) else "") for token in tokens
    )


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer with its chat template, ready for `save_pretrained`."""
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary())}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(split_pattern()), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (PAD, EOS)])
    built: PreTrainedTokenizerFast = hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        padding_side="left",
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )
    return built
