"""The end of an assistant's turn, as the chat template writes it: what training ends in and generation stops at."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from micota.errors import ConfigError

_THOUGHT = re.compile(r".*</\w+>", re.DOTALL)
ANSWER = "Vq7 Zk3"  # a text that no template has; its place shows what the template writes after an answer


@dataclass(frozen=True)
class TurnEnd:
    """The token that ends a turn of the assistant.

    ``from_template`` is false where the template marks no end by a token, so that the tokenizer's eos is taken.
    """

    text: str
    id: int
    from_template: bool


def end_of_turn(tokenizer: Any) -> TurnEnd:
    """The end of a turn, from a rendered one: the first token that the template writes after an answer.

    It is often not the tokenizer's eos. Gemma 2 ends a turn in ``<end_of_turn>`` and has the eos ``<eos>``; a base
    model of Qwen2.5 ends one in ``<|im_end|>`` and has ``<|endoftext|>``.

    Raises:
        ConfigError: the template marks no end, and the tokenizer has no eos.
    """
    after = _after_answer(tokenizer).lstrip()
    marks = dict(getattr(tokenizer, "get_added_vocab", dict)())
    # The longest first, as tokenizers match them: one mark may begin as another.
    for text in sorted(marks, key=len, reverse=True):
        if text.strip() and after.startswith(text):
            return TurnEnd(text, marks[text], from_template=True)
    if tokenizer.eos_token_id is None:
        name = getattr(tokenizer, "name_or_path", "") or "the model"
        raise ConfigError(
            f"the tokenizer of {name} has no eos_token, and its chat template ends a turn in no token "
            f"({after[:40]!r}); accepted: a tokenizer with one, or chat_template=FILE that ends turns in a token"
        )
    eos = getattr(tokenizer, "eos_token", None) or ""
    return TurnEnd(eos, tokenizer.eos_token_id, from_template=bool(eos) and after.startswith(eos))


def _after_answer(tokenizer: Any) -> str:
    """What the template writes after the answer of a finished conversation; empty where it renders none."""
    from jinja2 import TemplateError

    turns = [{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": ANSWER}]
    # A template may fail in any way; that it cannot render the examples is an error elsewhere.
    try:
        rendered: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError):
        return ""
    return rendered.rpartition(ANSWER)[2] if ANSWER in rendered else ""


def left_out(rendered: str, conversation: Sequence[Mapping[str, str]]) -> Mapping[str, str] | None:
    """The first message whose content a rendered conversation lacks; None if it has all of them.

    Templates may trim texts, and drop the thoughts of earlier answers.
    """
    texts = [turn["content"].strip() for turn in conversation]
    shortened = [
        _THOUGHT.sub("", text).strip() if turn["role"] == "assistant" else text
        for turn, text in zip(conversation, texts, strict=True)
    ]
    for turn, text, short in zip(conversation, texts, shortened, strict=True):
        if not text or rendered.count(text) >= sum(other.count(text) for other in texts):
            continue
        # A text may occur in another turn too: as many times as in all of them, it is nowhere left out.
        if not short or rendered.count(short) < sum(other.count(short) for other in shortened):
            return turn
    return None


def end_within(text: str, tokenizer: Any, end: TurnEnd) -> str | None:
    """A token in an answer that ends a turn: a model that learns it stops there. None without one."""
    known: Collection[str] = getattr(tokenizer, "get_added_vocab", dict)()
    marks = [end.text, getattr(tokenizer, "eos_token", None)]
    return next((mark for mark in marks if mark and mark in known and mark in text), None)


def without_end(text: str, tokenizer: Any, end: TurnEnd) -> str:
    """An answer without end tokens after it, as rows have them that were rendered before: training adds one."""
    marks = [mark for mark in (end.text, getattr(tokenizer, "eos_token", None)) if mark]
    while mark := next((mark for mark in marks if text.rstrip().endswith(mark)), None):
        text = text.rstrip().removesuffix(mark)
    return text
