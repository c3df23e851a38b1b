"""A training row from elsewhere, and how its fields are read and checked."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from micota.artifacts.strict_json import strict_json
from micota.config import ThinkingConfig
from micota.config.fields import LARGEST
from micota.data.prompts import Prompt
from micota.errors import SourceError
from micota.records import Problem
from micota.visible import SURROGATE

GOLD_MARK = "####"  # worked answers of GSM8K have the gold answer after it
TEXT = "a text of at least one character"
_WORDS = re.compile(r"\s*<\|(begin|end)_of_(thought|solution)\|>\s*")  # how OpenThoughts-114k marks its parts
_LIST_AS_JSON, _TURNS_AS_JSON = re.compile(r"\s*\["), re.compile(r"\s*\[\s*\{")
_ENDS = {  # reasons for the end of an answer, as APIs name them
    "stop": ("stop", "eos", "eos_token", "end_turn", "stop_sequence"),
    "length": ("length", "max_tokens", "max_new_tokens", "max_length", "model_length"),
}
ENDS = ", ".join(word for words in _ENDS.values() for word in words)
Turns = list[dict[str, str]]


def end_of(word: str) -> str | None:
    """``stop`` or ``length``, by the word of an API for the end of an answer; None for another word."""
    return next((reason for reason, words in _ENDS.items() if word.strip().lower() in words), None)


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """A chat before an answer, the answer, and what the row tells about them.

    Args:
        where: the words for the row in errors.
        questions: the texts to look for among benchmark problems.
        gold: the gold answer; None where the row has none.
        correct: the verdict that comes with the row.
        learn_all: whether the turns of the assistant in ``messages`` are learnt, too.
    """

    where: str
    problem_id: str
    messages: Turns
    completion: str
    questions: list[str]
    gold: str | None = None
    correct: bool | None = None
    finish_reason: str = "stop"
    num_tokens: int = 0
    source: str | None = None
    learn_all: bool = False

    def problem(self, question: str) -> Problem:
        """Return a question with the gold answer of the row, or with an empty one."""
        return Problem(id=self.problem_id, problem=question, answer=self.gold or "")


@dataclass(frozen=True, kw_only=True)
class Fields:
    """The fields of one row, by name, and the columns that they come from."""

    where: str
    values: Mapping[str, Any]
    columns: Mapping[str, str]
    prompt: Prompt
    thinking: ThinkingConfig
    turns: str

    def refuse(self, name: str, value: Any, accepted: str) -> SourceError:
        """Return the error for a value that a field does not accept."""
        shown = repr(value)
        shown = shown if len(shown) <= 100 else f"{shown[:97]}..."
        return SourceError(f"{self.where}: {self.columns.get(name, name)}={shown}; accepted: {accepted}")

    def text(self, name: str) -> str:
        """Return a text that must be there."""
        value = self.values.get(name)
        if not isinstance(value, str) or not value.strip():
            raise self.refuse(name, value, TEXT)
        return self.whole(name, value)

    def optional(self, name: str) -> str | None:
        """Return a text that may be missing, null or empty."""
        value = self.values.get(name)
        return None if is_missing(value) or (isinstance(value, str) and not value.strip()) else self.text(name)

    def whole(self, name: str, text: str) -> str:
        """Refuse a text with half of a character, which UTF-8 and tokenizers cannot have."""
        if (half := SURROGATE.search(text)) is not None:
            near = text[max(0, half.start() - 20) : half.start() + 20]
            raise self.refuse(name, near, "texts without a lone surrogate (half of a character)")
        return text

    def parsed(self, name: str, *, or_text: bool = False) -> Any:
        """Return a list; in a CSV file it is written as JSON. ``or_text``: a text is accepted, too."""
        value = self.values.get(name)
        if isinstance(value, str) and (_TURNS_AS_JSON if or_text else _LIST_AS_JSON).match(value):
            try:
                return strict_json(value)
            except (ValueError, RecursionError) as error:
                if not or_text:
                    raise self.refuse(name, value, f"a list, in a cell of text as JSON ({error})") from None
        return value

    def row(self, asked: Turns, completion: str, **more: Any) -> TrainingRow:
        """Return the training row of a chat and its answer, with what every shape may have."""
        questions = [turn["content"] for turn in asked if turn["role"] == "user"]
        facts: dict[str, Any] = {
            "questions": questions,
            "gold": self.gold(),
            "correct": truth(self.values.get("verdict")),
            "finish_reason": self.finish("finish_reason", self.values.get("finish_reason")),
            "num_tokens": self.count(),
            "problem_id": self.identity() or content_id(questions),
        }
        return TrainingRow(
            where=self.where, messages=asked, completion=retagged(completion, self.thinking), **facts | more
        )

    def identity(self) -> str | None:
        value = self.values.get("id")
        if is_missing(value) or (isinstance(value, str) and not value.strip()):
            return None
        if isinstance(value, float) and value.is_integer():  # pandas makes floats of whole numbers beside nulls
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise self.refuse("id", value, "a text or a whole number, the same for all answers to one problem")
        return self.whole("id", str(value))

    def gold(self) -> str | None:
        value = self.values.get("gold")
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if is_missing(value):
            return None
        if isinstance(value, bool | list | dict) or value in (math.inf, -math.inf):
            raise self.refuse("gold", value, "a text or a number; data.columns={gold: null} leaves the column out")
        text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
        # A column of that name that holds worked solutions has no final answers to compare with.
        return None if "\n" in text else self.whole("gold", text) or None

    def finish(self, name: str, value: Any) -> str:
        """Return why an answer ended: ``length`` where it was cut; without a reason it counts as whole."""
        reason = "stop" if is_missing(value) or value == "" else end_of(str(value))
        if reason is None:
            raise self.refuse(name, value, ENDS)
        return reason

    def count(self) -> int:
        value = self.values.get("num_tokens")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if is_missing(value) or value == "":
            return 0
        if isinstance(value, str) and value.strip().isdecimal():  # in a CSV file
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
            raise self.refuse("num_tokens", value, f"a whole number of at least 0 and at most {LARGEST}")
        return value


def content_id(questions: list[str]) -> str:
    """Return the id of a problem that has none: a hash of the user's turns, so that the same question in another set
    is the same problem."""
    return hashlib.sha256("\x1e".join(questions).encode()).hexdigest()[:16]


def is_missing(value: Any) -> bool:
    """Whether a value is null; pandas writes a null as NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def truth(value: Any) -> bool | None:
    """Return a truth value, which is a word in a CSV file; None for any other value."""
    word = value.strip().lower() if isinstance(value, str) else ""
    return value if isinstance(value, bool) else {"true": True, "false": False}.get(word)


def tagged(thought: str, answer: str, thinking: ThinkingConfig) -> str:
    """Return a thought in its tags and the answer after it, as R1 writes them."""
    return f"{thinking.open or ''}\n{thought.strip()}\n{thinking.close or ''}\n\n{answer.strip()}".strip()


def retagged(completion: str, thinking: ThinkingConfig) -> str:
    """Return an answer in which the marks of OpenThoughts-114k are the tags of the recipe."""
    if "<|begin_of_thought|>" not in completion or not thinking.open:
        return completion
    words = {("begin", "thought"): f"{thinking.open}\n", ("end", "thought"): f"\n{thinking.close}\n\n"}
    return _WORDS.sub(lambda match: words.get((match[1], match[2]), ""), completion).strip()


def columns_by_word(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns of a row by their names, and by these in small letters: some files have them in large ones."""
    return {column.strip().lower(): column for column in row} | {column: column for column in row}
