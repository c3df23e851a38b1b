"""Problem -> chat messages -> rendered prompt. One rendering for generation, training and evaluation."""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple, Protocol

from micota.data.turns import left_out
from micota.data.unknown_words import can_encode, no_tokens, unknown_words
from micota.errors import ConfigError, SourceError


class Prompt(Protocol):
    """The settings that turn a problem into a prompt."""

    @property
    def template(self) -> str: ...
    @property
    def system(self) -> str | None: ...
    @property
    def as_chat(self) -> bool: ...


class Thinking(Protocol):
    """The tags around the chain of thought of a model; None for models without one."""

    @property
    def open(self) -> str | None: ...
    @property
    def close(self) -> str | None: ...


class Tokenizer(Protocol):
    """The method of a Hugging Face tokenizer that is used here."""

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str: ...


def messages(problem: str, prompt: Prompt) -> list[dict[str, str]]:
    """Return the chat messages of the prompt for ``problem``."""
    # str.replace and not str.format: problems and templates are full of braces.
    user = {"role": "user", "content": prompt.template.replace("{problem}", problem)}
    return [user] if prompt.system is None else [{"role": "system", "content": prompt.system}, user]


def render(tokenizer: Tokenizer, conversation: list[dict[str, str]]) -> str:
    """Return the exact text of the prompt, rendered by the chat template of the model's tokenizer.

    Raises:
        ConfigError: it has none, as those of base models.
    """
    if getattr(tokenizer, "chat_template", "") is None:
        name = getattr(tokenizer, "name_or_path", "") or "the model"
        raise ConfigError(
            f"the tokenizer of {name} has no chat template; accepted: a file with one, as student.chat_template=FILE"
        )
    return tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)


def prompt_text(tokenizer: Tokenizer, problem: str, prompt: Prompt) -> str:
    """Return the exact text of a prompt: a rendered chat, or the plain text if ``prompt.as_chat`` is false.

    Raises:
        ConfigError: the chat template cannot render the prompt, as that of Gemma 2 with a system text, or leaves out a
            text of it.
    """
    from jinja2 import TemplateError

    conversation = messages(problem, prompt)
    if not prompt.as_chat:
        return "\n".join(turn["content"] for turn in conversation)
    try:
        rendered = render(tokenizer, conversation)
    except (TemplateError, TypeError, ValueError) as error:
        name = getattr(tokenizer, "name_or_path", "") or "the model"
        raise ConfigError(
            f"the chat template of {name} cannot render a prompt with the roles {[t['role'] for t in conversation]} "
            f"({error}); accepted: prompts that it renders, as with prompt.system=null, or chat_template=FILE"
        ) from error
    if (turn := left_out(rendered, conversation)) is not None:
        name = getattr(tokenizer, "name_or_path", "") or "the model"
        raise ConfigError(
            f"the chat template of {name} leaves out the text of {turn['role']!r} ({turn['content'][:60]!r}); "
            "accepted: prompts that it renders, as with prompt.system=null, or chat_template=FILE"
        )
    return rendered


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a text, without special tokens beside those that the text names.

    Raises:
        SourceError: the tokenizer has no tokens for a word, as that of the toy models.
    """

    def encode(words: str) -> list[int]:
        ids: list[int] = tokenizer(words, add_special_tokens=False)["input_ids"]
        return ids

    try:
        return encode(text)
    except Exception as error:
        if can_encode(encode, text):  # which raises what is no such error
            raise
        name = getattr(tokenizer, "name_or_path", "") or "the model"
        raise SourceError(no_tokens(name, unknown_words(encode, text), f"the text {text[:80]!r}")) from error


NAMES = ("think", "thinking", "thought", "thoughts", "reason", "reasoning", "seed:think")
# The tags of thoughts that published models use, each with the one that ends it.
PAIRS = {f"<{name}>": f"</{name}>" for name in NAMES} | {
    "[THINK]": "[/THINK]",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
}
TAGS = f"(?:{'|'.join(map(re.escape, PAIRS))})"


def prefilled(rendered: str, opening: str | None = None) -> str:
    """Return the beginning of the answer that the chat template writes into the prompt.

    It is an opening tag (``opening``, or any of ``TAGS``) and the white space after it, or an empty text.
    """
    tag = re.search((re.escape(opening) if opening else TAGS) + r"\s*\Z", rendered)
    return tag.group() if tag else ""


_ANY_TAG = f"(?:{'|'.join(re.escape(tag) for pair in PAIRS.items() for tag in pair)})"
_LIKELY_TAG = re.compile(rf"^[ \t]*{_ANY_TAG}|{_ANY_TAG}[ \t]*$", re.MULTILINE)


class _Tags(NamedTuple):
    open: str | None
    close: str | None


class Parts(NamedTuple):
    """A completion in two: the chain of thought (``cot``, None if there is none), and the answer (None if the chain of
    thought does not end)."""

    cot: str | None
    answer: str | None


def split(completion: str, thinking: Thinking, prefilled: str = "") -> Parts:
    """Split a completion into chain of thought and answer, without tags; ``prefilled`` as in its row."""
    if not thinking.open or not thinking.close:
        return Parts(None, completion)
    text = completion if completion.lstrip().startswith(thinking.open) else prefilled + completion
    before, closed, after = text.rpartition(thinking.close)  # some completions lack the opening tag
    if thinking.open in after:  # opened, or opened again, and never closed
        return Parts(_without_tags(text, thinking), None)
    return Parts(_without_tags(before, thinking), after.strip()) if closed else Parts(None, completion)


def _without_tags(text: str, thinking: Thinking) -> str:
    """A thought without the tags in it, of which some models write several. Text before the first belongs to it."""
    parts = re.split("|".join(re.escape(str(tag)) for tag in (thinking.open, thinking.close)), text)
    return "\n\n".join(part.strip() for part in parts if part.strip())


UNENDED = "unended_thought"


def unanswered(completion: str, thinking: Thinking, prefilled: str = "") -> str | None:
    """Return why a completion has no answer after its thought: ``UNENDED``, or ``no_answer`` where nothing
    follows; None where it has one. Without tags in the config, the usual ones count, where a line begins or ends with
    one: a text may also speak of a tag."""
    text = prefilled + completion
    if not thinking.open and (tag := _LIKELY_TAG.search(text)) is not None:
        thinking = next(_Tags(*pair) for pair in PAIRS.items() if tag.group().strip() in pair)
    answer = split(completion, thinking, prefilled).answer
    return UNENDED if answer is None else None if answer or not thinking.open else "no_answer"


def check_thought_limit(limit: int | None, thinking: Thinking, engine: str) -> None:
    """Refuse to end thoughts after ``limit`` tokens where no tag ends them, or where no text can be continued.

    Raises:
        ConfigError: the text names the setting.
    """
    if limit is None:
        return
    if not thinking.close:
        raise ConfigError(
            f"sampling.max_thought_tokens={limit} of a model without tags of a thought; accepted: null, or its tags, "
            "as thinking={open:'<think>',close:'</think>'}"
        )
    if engine == "chat":
        raise ConfigError(
            f"sampling.max_thought_tokens={limit} with engine=chat, whose API continues no text; accepted: null, or "
            "engine=hf, vllm, ray or server"
        )


def target(completion: str, thinking: Thinking, prefilled: str, form: str) -> str:
    """Return the training target of a completion whose chain of thought ends, in one of four forms.

    ``tagged`` is all of it with its tags, the one in the prompt included; ``untagged`` is the same without tags;
    ``cot`` is the chain of thought, ``answer`` the answer.
    """
    parts = split(completion, thinking, prefilled)
    assert parts.answer is not None
    if parts.cot is None:
        return completion
    if form == "tagged":
        opening, closing = str(thinking.open), str(thinking.close)
        text = completion if completion.lstrip().startswith(opening) else prefilled + completion
        begins = text.lstrip().startswith(opening) or opening not in text
        if begins and text.count(opening) <= 1 == text.count(closing):
            return text
        return f"{opening}\n{parts.cot}\n{closing}\n\n{parts.answer}"
    return {"cot": parts.cot, "answer": parts.answer, "untagged": f"{parts.cot}\n\n{parts.answer}".strip()}[form]


def prompt_hash(rendered: str) -> str:
    """Return a short hash of a rendered prompt; completions store it, so a changed template is visible."""
    return hashlib.sha256(rendered.encode()).hexdigest()[:12]
