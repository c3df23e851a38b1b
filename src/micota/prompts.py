"""Problem -> chat messages -> rendered prompt. One rendering for generation, training and evaluation."""

from __future__ import annotations

import hashlib
from typing import Protocol


class Prompt(Protocol):
    """How a problem is put to a model."""

    @property
    def template(self) -> str: ...
    @property
    def system(self) -> str | None: ...
    @property
    def as_chat(self) -> bool: ...


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


def prompt_hash(rendered: str) -> str:
    """Short hash of a rendered prompt: a changed template shows in the completions."""
    return hashlib.sha256(rendered.encode()).hexdigest()[:12]
