"""Where problems and models come from: the hub, local files, or what is bundled with the package."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from micota.config import SourceConfig
from micota.records import Problem

BUNDLED = "bundled:"


class SourceError(ValueError):
    """Problems or a model could not be read; the text names the file or hub id and what was expected."""


def model_folder(path: str) -> str:
    """A folder or hub id for ``from_pretrained``, with ``bundled:NAME`` resolved."""
    return str(_bundled("models", path)) if path.startswith(BUNDLED) else path


def load_problems(source: SourceConfig) -> list[Problem]:
    """All problems of a source, in its order, checked.

    Raises:
        SourceError: a column is missing or empty, ids repeat, or the number of rows is not the declared one.
    """
    name = source.path
    problems: list[Problem] = []
    for number, row in enumerate(_rows(source)):
        try:
            problem, answer = row[source.problem_column], row[source.answer_column]
            identity = row[source.id_column] if source.id_column else number
        except KeyError as error:
            raise SourceError(f"{name}: row {number} has no column {error}; it has {sorted(row)}") from None
        if isinstance(answer, list) and len(answer) == 1:
            answer = answer[0]
        answer = str(answer)
        if source.answer_after:
            answer = answer.rpartition(source.answer_after)[2]
        answer = answer.strip()
        if not str(problem).strip() or not answer:
            raise SourceError(f"{name}: row {number} has an empty problem or answer")
        problems.append(Problem(id=str(identity), problem=str(problem), answer=answer))
    if source.num_rows is not None and len(problems) != source.num_rows:
        raise SourceError(f"{name} has {len(problems)} rows; num_rows says {source.num_rows}")
    if len({problem.id for problem in problems}) != len(problems):
        raise SourceError(f"{name}: values of the column {source.id_column!r} repeat; ids must be unique")
    if not problems:
        raise SourceError(f"{name} has no rows")
    return problems[: source.limit]


def _rows(source: SourceConfig) -> Iterable[Mapping[str, Any]]:
    if source.path.startswith(BUNDLED):
        return _jsonl(_bundled("problems", source.path))
    if source.path.endswith((".jsonl", ".json")):
        return _jsonl(Path(source.path))
    import datasets

    rows: Iterable[Mapping[str, Any]] = datasets.load_dataset(
        source.path, source.subset, split=source.split, revision=source.revision
    )
    return rows


def _jsonl(path: Path) -> Iterator[Mapping[str, Any]]:
    with open(path, encoding="utf-8") as handle:
        for number, line in enumerate(handle, start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise SourceError(f"{path}:{number}: not valid JSON ({error})") from None
            if not isinstance(row, dict):
                raise SourceError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
            yield row


def _bundled(folder: str, path: str) -> Path:
    root = Path(str(resources.files("micota.tiny"))) / folder
    found = root / path.removeprefix(BUNDLED)
    if not found.exists():
        options = ", ".join(sorted(BUNDLED + entry.name for entry in root.iterdir() if entry.suffix in ("", ".jsonl")))
        raise SourceError(f"{path!r} is not bundled; accepted: {options}")
    return found
