"""Schemas of problems and benchmarks, and of the prompts that are made of them."""

from __future__ import annotations

from dataclasses import dataclass

from micota.config.fields import choice, positive, slug, where

ANSWER_TYPES = ("auto", "integer", "number", "expression", "text", "list", "tuple", "interval", "matrix")
GRADERS = ("typed", "paper_rule", "judge")
PAPER_RULES = ("hendrycks", "zeros", "gsm8k")


@dataclass(kw_only=True)
class QuestionsConfig:
    """Rows of problems to ask: a hub data set, a local JSONL file, or ``bundled:NAME`` shipped with the package.

    A column may be a dotted path into nested fields (``meta.unit``).
    """

    path: str = where("a hub data set id, a .jsonl file or bundled:NAME.jsonl", bool)
    revision: str | None = None
    fingerprint: str | None = None
    subset: str | None = None
    split: str = "train"
    id_column: str | None = None
    problem_column: str = "problem"
    limit: int | None = positive(None)  # use only the first rows


@dataclass(kw_only=True)
class SourceConfig(QuestionsConfig):
    """Problems with their gold answers, and how those are compared. None of this changes what a model is asked.

    ``answer_type`` holds for all rows; where rows differ, ``type_column`` names the column and ``types`` translates its
    words. ``list_column`` marks rows whose answer is a list in any order.
    """

    answer_column: str = "answer"
    answer_after: str | None = None  # the answer is what follows this mark in its column, as GSM8K's "####"
    num_rows: int | None = positive(None)  # asserted after loading
    answer_type: str = choice(*ANSWER_TYPES, default="auto")
    type_column: str | None = None
    types: dict[str, str] = where(
        "a map from words of type_column to answer types (" + ", ".join(ANSWER_TYPES) + ")",
        lambda value: all(kind in ANSWER_TYPES for kind in value.values()),
        default_factory=dict,
    )
    list_column: str | None = None
    unit_column: str | None = None
    tolerance_column: str | None = None
    paper_rule: str = choice(*PAPER_RULES, default="hendrycks")


@dataclass(kw_only=True)
class ProblemsConfig(SourceConfig):
    """The pool of training problems that every recipe of a comparison draws from."""

    name: str = slug()


@dataclass(kw_only=True)
class OtherProblemsConfig(ProblemsConfig):
    """Problems that need not be named (``path`` null)."""

    name: str | None = None  # type: ignore[assignment]
    path: str | None = None  # type: ignore[assignment]


@dataclass(kw_only=True)
class BenchConfig(SourceConfig):
    """One benchmark."""


@dataclass(kw_only=True)
class PromptConfig:
    """How a problem becomes a prompt: one for generation, training and evaluation, unless ``evaluation_template`` says
    otherwise. ``generation_as_chat=false`` sends the bare text when data are generated, without the chat template;
    ``training_system`` is a system prompt of the training data alone (null: ``system``)."""

    template: str = where("a text that contains {problem}", lambda value: "{problem}" in value)
    system: str | None = None
    evaluation_template: str | None = where(
        "null, or a text that contains {problem}", lambda value: value is None or "{problem}" in value, None
    )
    generation_as_chat: bool = True
    training_system: str | None = None
