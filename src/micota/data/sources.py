"""Reading problems and models from the hub, from local files, or from the files bundled with the package."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from micota.config import QuestionsConfig, SourceConfig
from micota.config.models import is_row_file
from micota.data.files import BUNDLED, bundled, file_rows, json_lines, numbered_rows
from micota.data.options import options_of, right_letter, with_options
from micota.data.training_rows import GOLD_MARK, columns_by_word
from micota.errors import SourceError
from micota.grading import paper_rule
from micota.grading.extraction.boxes import boxed
from micota.records import Problem, Question
from micota.visible import NOT_SHOWN, SURROGATE

# The columns that public sets use, tried in this order where the setting has its default, which is the first.
Item = TypeVar("Item")
# The words of Python, SQL, pandas and spreadsheets for no value, or for an error in its place.
NOTHING = (
    "none", "null", "nan", "<na>", "nat", "n/a", "#n/a", "#ref!", "#value!", "#div/0!", "#name?", "#num!", "#null!",
)  # fmt: skip
WORKED = "solution"  # a worked solution, whose answer is in its last box
PROBLEM_COLUMNS = ("problem", "question", "prompt")
ANSWER_COLUMNS = ("answer", "gold", "final_answer", "expected_answer", WORKED)


def model_folder(path: str) -> str:
    """Return a folder or hub id for ``from_pretrained``, with ``bundled:NAME`` resolved."""
    return str(bundled("models", path)) if path.startswith(BUNDLED) else path


def load_questions(source: QuestionsConfig) -> list[Question]:
    """Load all problems of a source, in its order, without their answers.

    Raises:
        SourceError: a column is missing or empty, or ids repeat.
    """
    return _used((question for question, _, _ in _questions(source)), source)[0]


def located_questions(source: QuestionsConfig) -> list[tuple[str, Question]]:
    """Load all problems of a source as ``load_questions``, each with the words for its row in errors."""
    return _used(((where, question) for question, where, _ in _questions(source)), source)[0]


def load_problems(source: SourceConfig) -> list[Problem]:
    """Load all problems of a source with their gold answers, in its order, checked.

    Raises:
        SourceError: a column is missing or empty, ids repeat, a gold is not of its type, or the number of rows is not
            the declared one.
    """
    problems, count = _used(
        (_problem(source, question, where, row) for question, where, row in _questions(source)), source
    )
    if source.num_rows is not None and count != source.num_rows:
        raise SourceError(f"{source.path} has {count} rows; num_rows is {source.num_rows}; accepted: {count}, or null")
    return problems


def _used(items: Iterable[Item], source: QuestionsConfig) -> tuple[list[Item], int]:
    """Return what a source uses of the items of its rows, and the number of all, which are checked as they come; no
    others are held.

    Raises:
        SourceError: it leaves out all of them.
    """
    kept: list[Item] = []
    count = 0
    for count, item in enumerate(items, start=1):
        if _is_used(count - 1, source):
            kept.append(item)
    if source.skip >= count:
        raise SourceError(f"{source.path} has {count} rows; skip is {source.skip}; accepted: fewer than the rows")
    return kept, count


def _is_used(number: int, source: QuestionsConfig) -> bool:
    """Whether a source uses the row of a number, from 0."""
    return number >= source.used.start and (source.used.stop is None or number < source.used.stop)


def _problem(source: SourceConfig, question: Question, where: str, row: Mapping[str, Any]) -> Problem:
    return Problem(
        id=question.id,
        problem=question.problem,
        answer=_gold(source, where, row, question.id),
        answer_type=_answer_type(source, where, row),
        tolerance=_optional(where, row, source.tolerance_column, "tolerance_column"),
        unit=_optional(where, row, source.unit_column, "unit_column"),
    )


def load_labels(source: SourceConfig, column: str, key: str) -> dict[str, str]:
    """Load one column of the problems by their ids (their level or subject); empty values are left out.

    Raises:
        SourceError: the column is missing; the text has ``key``, the setting that names it.
    """
    labels = {}
    for number, (question, where, row) in enumerate(_questions(source)):
        if _is_used(number, source):
            labels[question.id] = _optional(where, row, column, key)
    return {identity: label for identity, label in labels.items() if label is not None}


def _questions(source: QuestionsConfig) -> Iterator[tuple[Question, str, Mapping[str, Any]]]:
    """Yield every problem with the words for its row in errors and the row, checked: rows may have long columns."""
    first: dict[str, str] = {}
    for number, (where, row) in enumerate(numbered_rows(source)):
        column = _usual(row, source.problem_column, PROBLEM_COLUMNS)
        problem = _column(where, row, column, "problem_column")
        if isinstance(problem, str):
            _check_whole(where, column, problem)
        if not isinstance(problem, str) or not NOT_SHOWN.sub("", problem).strip():
            raise SourceError(f"{where}: {column}={problem!r}; accepted: the text of a problem (problem_column)")
        identity = number if source.id_column is None else _identity(where, row, source.id_column)
        if str(identity) in first:
            raise SourceError(
                f"{where}: the id {str(identity)!r} is that of {first[str(identity)]}, too; ids must be unique "
                f"(id_column={source.id_column}); accepted: a column of other ids, or null, which numbers the rows"
            )
        first[str(identity)] = where
        if source.option_columns:
            problem = with_options(problem, _options(source, where, row), str(identity))
        yield Question(id=str(identity), problem=problem), where, row
    if not first:
        raise SourceError(f"{source.path} has no rows; accepted: at least one")


def _identity(where: str, row: Mapping[str, Any], column: str) -> str | int:
    """Return the id of a row: a text or a whole number, which pandas makes a float beside nulls."""
    value = _column(where, row, column, "id_column")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise SourceError(f"{where}: {column}={value!r}; accepted: a text or a whole number (id_column)")
    _check_whole(where, column, str(value))
    return value


def _check_whole(where: str, column: str, text: str) -> None:
    """Refuse a text with half of a character, which UTF-8 and tokenizers cannot have."""
    if SURROGATE.search(text):
        raise SourceError(
            f"{where}: {column}={text[:80]!r}; accepted: a text without half of a character (a surrogate)"
        )


def _usual(row: Mapping[str, Any], column: str, others: tuple[str, ...]) -> str:
    """Return the column of a setting that has its default, ``others[0]``: the first of ``others`` that the row has."""
    if column != others[0]:
        return column
    by_word = columns_by_word(row)
    return next((by_word[word] for word in others if word in by_word), column)


def _gold(source: SourceConfig, where: str, row: Mapping[str, Any], identity: str) -> str:
    """Return the gold answer of a row; of a multiple-choice problem the letter of the right option."""
    answer = _answer(source, where, row)
    return right_letter(where, answer, _options(source, where, row), identity) if source.option_columns else answer


def _options(source: QuestionsConfig, where: str, row: Mapping[str, Any]) -> list[str]:
    columns = source.option_columns
    return options_of(where, [_column(where, row, column, "option_columns") for column in columns], columns)


def _answer(source: SourceConfig, where: str, row: Mapping[str, Any]) -> str:
    """Return the gold answer of a row, as text; of a worked solution what its last box holds."""
    column = _usual(row, source.answer_column, ANSWER_COLUMNS)
    answer = _column(where, row, column, "answer_column")
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    is_number = isinstance(answer, int | float) and not isinstance(answer, bool) and math.isfinite(answer)
    text = str(answer) if isinstance(answer, str) or is_number else ""
    if mark := source.answer_after or (GOLD_MARK if GOLD_MARK in text else None):
        text = text.rpartition(mark)[2]
    if source.answer_boxed or (column != source.answer_column and column.strip().lower() == WORKED):
        # Some solutions have \boxed 5 or \fbox{5}, which the published rule reads.
        in_box = boxed(text) or paper_rule.extract(text, "hendrycks")
        if in_box is None and (source.answer_boxed or "\n" in text.strip()):
            raise SourceError(
                f"{where}: there is no \\boxed{{}} in {column}={text[-80:]!r}; accepted: a solution with its answer in "
                "\\boxed{}"
            )
        text = in_box or text
    _check_whole(where, column, text)
    if not NOT_SHOWN.sub("", text).strip():
        raise SourceError(
            f"{where}: {column}={str(answer)[:80]!r}; accepted: a gold answer that is not empty "
            "(answer_column names its column)"
        )
    if text.strip().lower() in NOTHING and source.answer_type != "text" and source.type_column is None:
        raise SourceError(
            f"{where}: {column}={text.strip()!r}, which programs write where there is no value; accepted: a gold "
            "answer, or with answer_type=text this word"
        )
    return text.strip()


def _column(where: str, row: Mapping[str, Any], column: str, key: str) -> Any:
    """Return the value of the column that the setting ``key`` names; its name may be a dotted path."""
    value: Any = row
    for name in column.split(".") if column not in row else [column]:
        if not isinstance(value, Mapping) or name not in value:
            raise SourceError(
                f"{where}: {key}={column}: there is no such column; it has "
                f"{', '.join(sorted(map(str, row))) or 'none'}; accepted: one of its columns"
            )
        value = value[name]
    return value


def _optional(where: str, row: Mapping[str, Any], column: str | None, key: str) -> str | None:
    value = None if column is None else _column(where, row, column, key)
    return None if value is None or not str(value).strip() else str(value).strip()


def _answer_type(source: SourceConfig, where: str, row: Mapping[str, Any]) -> str:
    if source.list_column is not None and _column(where, row, source.list_column, "list_column") in (
        True,
        "True",
        "true",
    ):
        return "list"
    if source.type_column is None:
        return source.answer_type
    word = str(_column(where, row, source.type_column, "type_column"))
    if word not in source.types:
        words = ", ".join(source.types)
        raise SourceError(f"{where}: {source.type_column}={word!r}; accepted: a word of types, which has {words}")
    return source.types[word]


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of rows; one whose name shows no format has a JSON object a line.

    Raises:
        SourceError: a row cannot be read; the text names the file and line.
    """
    return (row for _, row in (file_rows(path) if is_row_file(path.name) else json_lines(path)))
