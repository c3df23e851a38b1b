"""Reading problems and models from the hub, from local files, or from the files bundled with the package."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

from micota.config import QuestionsConfig, SourceConfig
from micota.errors import SourceError
from micota.grading import paper_rule
from micota.grading.extract import boxed
from micota.records import Problem, Question

BUNDLED = "bundled:"


def model_folder(path: str) -> str:
    """Return a folder or hub id for ``from_pretrained``, with ``bundled:NAME`` resolved."""
    return str(_bundled("models", path)) if path.startswith(BUNDLED) else path


def load_questions(source: QuestionsConfig) -> list[Question]:
    """Load all problems of a source, in its order, without their answers.

    Raises:
        SourceError: a column is missing or empty, or ids repeat.
    """
    return [question for question, _ in _questions(source)][: source.limit]


def load_problems(source: SourceConfig) -> list[Problem]:
    """Load all problems of a source with their gold answers, in its order, checked.

    Raises:
        SourceError: a column is missing or empty, ids repeat, a gold is not of its type, or the number of rows is not
            the declared one.
    """
    problems = []
    for number, (question, row) in enumerate(_questions(source)):
        answer = _column(source, number, row, source.answer_column)
        if isinstance(answer, list) and len(answer) == 1:
            answer = answer[0]
        answer = str(answer)
        if source.answer_after:
            answer = answer.rpartition(source.answer_after)[2]
        if source.answer_boxed:
            answer = _in_box(source, number, answer)
        if not answer.strip():
            raise SourceError(f"{source.path}: row {number} has an empty {source.answer_column}")
        problems.append(
            Problem(
                id=question.id,
                problem=question.problem,
                answer=answer.strip(),
                answer_type=_answer_type(source, number, row),
                tolerance=_optional(source, number, row, source.tolerance_column),
                unit=_optional(source, number, row, source.unit_column),
            )
        )
    if source.num_rows is not None and len(problems) != source.num_rows:
        raise SourceError(f"{source.path} has {len(problems)} rows; num_rows is {source.num_rows}")
    return problems[: source.limit]


def _questions(source: QuestionsConfig) -> list[tuple[Question, Mapping[str, Any]]]:
    """Return every problem with the row it comes from, checked."""
    questions = []
    for number, row in enumerate(_rows(source)):
        problem = str(_column(source, number, row, source.problem_column))
        if not problem.strip():
            raise SourceError(f"{source.path}: row {number} has an empty {source.problem_column}")
        identity = number if source.id_column is None else _column(source, number, row, source.id_column)
        questions.append((Question(id=str(identity), problem=problem), row))
    if not questions:
        raise SourceError(f"{source.path} has no rows")
    if len({question.id for question, _ in questions}) != len(questions):
        raise SourceError(f"{source.path}: values of the column {source.id_column!r} repeat; ids must be unique")
    return questions


def _column(source: QuestionsConfig, number: int, row: Mapping[str, Any], column: str) -> Any:
    """Return the value of a column; its name may be a dotted path."""
    value: Any = row
    for name in column.split(".") if column not in row else [column]:
        if not isinstance(value, Mapping) or name not in value:
            raise SourceError(f"{source.path}: row {number} has no column {column!r}; it has {', '.join(sorted(row))}")
        value = value[name]
    return value


def _in_box(source: SourceConfig, number: int, solution: str) -> str:
    # Some solutions have \boxed 5 or \fbox{5}, which the published rule reads.
    content = boxed(solution) or paper_rule.extract(solution, "hendrycks")
    if content is None:
        raise SourceError(f"{source.path}: row {number} has no \\boxed{{}} in its {source.answer_column}")
    return content


def _optional(source: QuestionsConfig, number: int, row: Mapping[str, Any], column: str | None) -> str | None:
    value = None if column is None else _column(source, number, row, column)
    return None if value is None or not str(value).strip() else str(value).strip()


def _answer_type(source: SourceConfig, number: int, row: Mapping[str, Any]) -> str:
    if source.list_column is not None and _column(source, number, row, source.list_column) in (True, "True", "true"):
        return "list"
    if source.type_column is None:
        return source.answer_type
    word = str(_column(source, number, row, source.type_column))
    if word not in source.types:
        raise SourceError(
            f"{source.path}: row {number} has {source.type_column}={word!r}; types has {', '.join(source.types)}"
        )
    return source.types[word]


def _rows(source: QuestionsConfig) -> Iterable[Mapping[str, Any]]:
    if source.path.startswith(BUNDLED):
        return read_rows(_bundled("problems", source.path))
    if source.path.endswith((".jsonl", ".json")):
        return read_rows(Path(source.path))
    import datasets

    subsets = source.subset.split("+") if source.subset else [None]
    try:
        parts: list[Iterable[Mapping[str, Any]]] = [
            datasets.load_dataset(source.path, subset, split=source.split, revision=source.revision)
            for subset in subsets
        ]
    # Raised for an unknown set, subset or split, for files of no supported format, and if the hub is out of reach.
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        settings = ", ".join(f"{name}={getattr(source, name)!r}" for name in ("path", "subset", "split", "revision"))
        reason = " ".join(str(error).split())[:200]
        raise SourceError(
            f"the problems of {settings} cannot be read ({reason}); accepted: a dataset of the hub with its subset and "
            "split, a .jsonl file, or bundled:NAME"
        ) from error
    return chain.from_iterable(parts)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL file, one per line.

    Raises:
        SourceError: a line is not a JSON object; the text names the file and line.
    """
    with open(path, "rb") as handle:  # bytes: text mode would raise outside the loop for a line that is not UTF-8
        for number, line in enumerate(handle, start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise SourceError(f"{path}:{number}: not valid JSON in UTF-8 ({error})") from None
            if not isinstance(row, dict):
                raise SourceError(f"{path}:{number}: expected a JSON object, not {type(row).__name__}")
            yield row


def _bundled(folder: str, path: str) -> Path:
    root = Path(str(resources.files("micota.tiny"))) / folder
    bundled = root / path.removeprefix(BUNDLED)
    if not bundled.exists():
        options = ", ".join(sorted(BUNDLED + entry.name for entry in root.iterdir() if entry.suffix in ("", ".jsonl")))
        raise SourceError(f"{path!r} is not bundled; accepted: {options}")
    return bundled
