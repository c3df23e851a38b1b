"""Schemas of problems and benchmarks, and of the prompts that are made from them."""

from __future__ import annotations

from dataclasses import dataclass

from micota.config.fields import choice, non_negative, plain, positive, slug, where, words

ANSWER_TYPES = ("auto", "integer", "number", "expression", "text", "list", "tuple", "interval", "matrix")
PAPER_RULES = ("hendrycks", "zeros", "gsm8k")


def _has_problem(value: str | None) -> bool:
    return value is None or "{problem}" in value


@dataclass(kw_only=True)
class QuestionsConfig:
    """Rows of problems to prompt a model with. A column may be a dotted path into nested fields (``meta.unit``)."""

    path: str = where(
        "a hub data set id, a file, a folder or bundled:NAME.jsonl",
        bool,
        about="The location: a data set on the hub, a file (.jsonl, .json, .parquet, .csv, each also .gz), "
        "a folder of files, or bundled:NAME.jsonl of the toy setting.",
        results=True,
    )
    revision: str | None = words(
        None, about="The commit, tag or branch on the hub; null: the newest.", results=True, of_path=True
    )
    fingerprint: str | None = plain(
        None,
        about="The hash of a local file, so that a changed file is another one.",
        results=True,
        of_path=True,
        internal=True,
    )
    subset: str | None = words(
        None,
        about="The configuration of a hub data set, where it has several; A+B: the rows of A, then those of B.",
        results=True,
        of_path=True,
    )
    split: str = words("train", about="The split of a hub data set.", results=True, of_path=True)
    id_column: str | None = words(
        None, about="The column of ids; null: the number of the row.", results=True, of_path=True
    )
    problem_column: str = words("problem", about="The column of the problem's text.", results=True, of_path=True)
    option_columns: list[str] = plain(
        default_factory=list,
        about="The columns of the options of a multiple-choice problem, the right one included (or one column with a "
        "list). They are shown as (A), (B), ... in an order by a seed of the problem's id, and the gold is a letter.",
        results=True,
        of_path=True,
    )
    limit: int | None = positive(
        None, about="Only this many of the first rows are used; null: all.", unit="rows", results=True
    )
    skip: int = non_negative(0, about="This many rows before them are left out.", unit="rows", results=True, added=True)

    @property
    def used(self) -> slice:
        """The rows that are used."""
        return slice(self.skip, None if self.limit is None else self.skip + self.limit)


@dataclass(kw_only=True)
class SourceConfig(QuestionsConfig):
    """Problems with their gold answers, and the rules for comparing answers. None of this changes a prompt."""

    answer_column: str = words("answer", about="The column of the gold answer.", results=True, of_path=True)
    answer_after: str | None = words(
        None,
        about="The gold answer is what follows this mark in its column (#### in GSM8K); null: all of it.",
        results=True,
        of_path=True,
    )
    answer_boxed: bool = plain(
        False,
        about=r"true: the gold answer is in the last \boxed{} of its column, as in the solutions of MATH.",
        results=True,
        of_path=True,
    )
    num_rows: int | None = positive(
        None,
        about="The expected number of rows, before any limit: another number is an error; null: any number.",
        unit="rows",
        results=True,
        of_path=True,
    )
    answer_type: str = choice(
        *ANSWER_TYPES,
        default="auto",
        about="How the typed grader reads answers; auto: by the gold answer.",
        results=True,
        of_path=True,
    )
    type_column: str | None = words(
        None,
        about="The column with the answer's type, where rows differ, in words that types translates.",
        results=True,
        of_path=True,
    )
    types: dict[str, str] = where(
        "a map from words of type_column to answer types (" + ", ".join(ANSWER_TYPES) + ")",
        lambda value: all(kind in ANSWER_TYPES for kind in value.values()),
        default_factory=dict,
        about="The answer type for each word of type_column.",
        results=True,
        of_path=True,
    )
    list_column: str | None = words(
        None, about="The column that marks answers that are lists in any order.", results=True, of_path=True
    )
    unit_column: str | None = words(None, about="The column of the answer's unit.", results=True, of_path=True)
    tolerance_column: str | None = words(
        None, about="The column of the allowed distance from the gold number.", results=True, of_path=True
    )
    paper_rule: str = choice(
        *PAPER_RULES,
        default="hendrycks",
        about="The rule of the papers' published code that the grader paper_rule follows.",
        results=True,
        of_path=True,
    )


@dataclass(kw_only=True)
class ProblemsConfig(SourceConfig):
    """The pool of training problems that every recipe of a comparison draws from."""

    name: str = slug(
        about="Their name in folders and tables. It enters no key, but another name is another folder. If the path is "
        "overridden, the last part of the path.",
        results=False,
        of_path=True,
    )


@dataclass(kw_only=True)
class OtherProblemsConfig(ProblemsConfig):
    """Problems whose name is optional."""

    name: str | None = plain(  # type: ignore[assignment]
        None, about="Their name.", results=False, of_path=True
    )
    path: str | None = plain(  # type: ignore[assignment]
        None, about="The location, as for all problems; null: the training problems.", results=True
    )


@dataclass(kw_only=True)
class BenchConfig(SourceConfig):
    """One benchmark. Its name is its key in the map."""

    paper_template: str | None = where(
        "null, or a text that contains {problem}",
        _has_problem,
        None,
        about="The text of the user's turn in the papers' published evaluation, where it differs from that of other "
        "benchmarks. It counts with prompt.per_benchmark.",
        results=True,
        of_path=True,
    )
    template: str | None = where(
        "null, or a text that contains {problem}",
        _has_problem,
        None,
        about="The text of the user's turn for this benchmark; null: that of prompt.",
        results=True,
        of_path=True,
    )
    level_column: str | None = words(
        None, about="The column of the problem's level, for accuracy by level.", results=True, of_path=True
    )
    subject_column: str | None = words(
        None, about="The column of the problem's subject, for accuracy by subject.", results=True, of_path=True
    )


@dataclass(kw_only=True)
class PromptConfig:
    """How a problem becomes a prompt: one for generation, training and evaluation, unless a key sets another."""

    template: str = where(
        "a text that contains {problem}",
        lambda value: "{problem}" in value,
        about="The text of the user's turn; {problem} stands for the problem.",
        results=True,
    )
    system: str | None = plain(None, about="The system prompt; null: that of the chat template, or none.", results=True)
    evaluation_template: str | None = where(
        "null, or a text that contains {problem}",
        _has_problem,
        None,
        about="The text of the user's turn in evaluation; null: template.",
        results=True,
    )
    per_benchmark: bool = plain(
        False,
        about="true: in evaluation, the paper_template of a benchmark wins over evaluation_template.",
        results=True,
    )
    generation_as_chat: bool = plain(
        True, about="false: data are generated from the bare text, without the chat template.", results=True
    )
    training_system: str | None = plain(
        None, about="The system prompt of the training data alone; null: system.", results=True
    )
