"""Problem -> chat messages -> rendered prompt. One rendering for generation, training and evaluation."""

from __future__ import annotations

import hashlib
from typing import Protocol

from micota.config import PromptConfig


class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer here."""

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str: ...


def messages(problem: str, prompt: PromptConfig) -> list[dict[str, str]]:
    """The chat messages that ask for an answer to ``problem``."""
    # str.replace and not str.format: problems and templates are full of braces.
    user = {"role": "user", "content": prompt.template.replace("{problem}", problem)}
    return [user] if prompt.system is None else [{"role": "system", "content": prompt.system}, user]


def render(tokenizer: Tokenizer, conversation: list[dict[str, str]]) -> str:
    """The exact text that a model sees before it answers, by the chat template of its tokenizer."""
    return tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)


def prompt_hash(rendered: str) -> str:
    """Short hash of a rendered prompt: a changed template shows in the completions."""
    return hashlib.sha256(rendered.encode()).hexdigest()[:12]
