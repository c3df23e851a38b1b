"""Problem -> chat messages -> rendered prompt. One rendering for generation, training and evaluation."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple, Protocol


class Prompt(Protocol):
    """How a problem is put to a model."""

    @property
    def template(self) -> str: ...
    @property
    def system(self) -> str | None: ...
    @property
    def as_chat(self) -> bool: ...


class Thinking(Protocol):
    """The tags around what a model thinks before it answers; null where it does not."""

    @property
    def open(self) -> str | None: ...
    @property
    def close(self) -> str | None: ...


class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer here."""

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str: ...


def messages(problem: str, prompt: Prompt) -> list[dict[str, str]]:
    """The chat messages that ask for an answer to ``problem``."""
    # str.replace and not str.format: problems and templates are full of braces.
    user = {"role": "user", "content": prompt.template.replace("{problem}", problem)}
    return [user] if prompt.system is None else [{"role": "system", "content": prompt.system}, user]


def render(tokenizer: Tokenizer, conversation: list[dict[str, str]]) -> str:
    """The exact text that a model sees before it answers, by the chat template of its tokenizer."""
    return tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)


def prompt_text(tokenizer: Tokenizer, problem: str, prompt: Prompt) -> str:
    """The exact text of a prompt: a rendered chat, or the bare text where the prompt is no chat."""
    conversation = messages(problem, prompt)
    return render(tokenizer, conversation) if prompt.as_chat else "\n".join(turn["content"] for turn in conversation)


TAGS = r"<(?:think|thinking|thought|thoughts|reason|reasoning)>"  # those of the models at large


def prefilled(rendered: str, opening: str | None = None) -> str:
    """The beginning of the answer that a chat template writes into the prompt: an opening tag (the one given, or any
    that is common) and the white space after it. Empty where it writes none."""
    found = re.search((re.escape(opening) if opening else TAGS) + r"\s*\Z", rendered)
    return found.group() if found else ""


class Parts(NamedTuple):
    """A completion in two: the thought (``cot``, null where there is none), and the answer (null where the thought does
    not end)."""

    cot: str | None
    answer: str | None


def split(completion: str, thinking: Thinking, prefilled: str = "") -> Parts:
    """The thought and the answer of a completion, without their tags; ``prefilled`` as in its row."""
    if not thinking.open or not thinking.close:
        return Parts(None, completion)
    text = completion if completion.lstrip().startswith(thinking.open) else prefilled + completion
    before, opened, after = text.partition(thinking.open)
    if not opened or before.strip():
        before, closed, after = text.partition(thinking.close)  # a model may forget to open what it closes
        return Parts(before.strip(), after.strip()) if closed else Parts(None, completion)
    cot, closed, answer = after.partition(thinking.close)
    return Parts(cot.strip(), answer.strip() if closed else None)


def target(completion: str, thinking: Thinking, prefilled: str, form: str) -> str:
    """What is to be learnt of a completion whose thought ends: ``tagged``, all of it with the tags that it was written
    with, also the one in the prompt; ``untagged``, the same without them; the thought (``cot``), or the ``answer``."""
    parts = split(completion, thinking, prefilled)
    assert parts.answer is not None
    if parts.cot is None:
        return completion
    if form == "tagged":
        return completion if completion.lstrip().startswith(str(thinking.open)) else prefilled + completion
    return {"cot": parts.cot, "answer": parts.answer, "untagged": f"{parts.cot}\n\n{parts.answer}".strip()}[form]


def prompt_hash(rendered: str) -> str:
    """Short hash of a rendered prompt: a changed template shows in the completions."""
    return hashlib.sha256(rendered.encode()).hexdigest()[:12]
