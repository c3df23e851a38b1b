"""Training rows from elsewhere -> examples: read one at a time, filtered as completions are, and counted."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from micota.artifacts.row_files import RowFiles, StoredExample, chunks
from micota.config import Config, DataConfig
from micota.data.decontamination import Match, matcher, reasons
from micota.data.files import numbered_rows
from micota.data.filters import Filters, best
from micota.data.only import is_wanted
from micota.data.prompts import split, target, token_ids
from micota.data.shapes import training_rows
from micota.data.sources import load_problems, model_folder
from micota.data.training_rows import TrainingRow
from micota.errors import SourceError
from micota.grading.graders import Graders, Submission, graders_of, prediction
from micota.graph import RowsSpec
from micota.pretrained import load_tokenizer
from micota.records import Completion, Example, Verdict
from micota.runtime.work import Work


class Passed(NamedTuple):
    """A completion that passed all filters, of ``num_tokens``, and its example."""

    problem_id: str
    sample: int
    num_tokens: int
    example: StoredExample


class Read(NamedTuple):
    """A row, its answer as filters take it, and the verdict; None where the row has no gold answer."""

    row: TrainingRow
    answer: Completion
    verdict: Verdict | None


def file_examples(work: Work[RowsSpec], files: RowFiles) -> tuple[list[StoredExample], list[Match] | None]:
    """The examples of the rows that pass the filters, in the order of the rows, and their questions that are like those
    of a benchmark; None where none was compared.

    Examples are appended to a temporary file of ``files``. Rows without a gold answer are neither graded nor compared
    with benchmarks; they are counted as ``not_checked``.

    Raises:
        SourceError: a row cannot be read; the text names the row and the field.
    """
    spec, counts = work.node.spec, Counter[str]()
    filters, contamination = Filters(spec.select, spec.rows.thinking), Contamination(spec)
    tokens = TokenCounts(spec)
    file = files.temporary(work.build.path)
    passed: list[Passed] = []
    with graders_of(work.config.evaluation) as graders:
        for read in _judged(_read(work, counts), tokens, graders):
            counts["completions"] += 1
            counts["not_checked"] += read.verdict is None
            reason = contamination.reason(read.row) or _reason(read, filters, spec)
            if reason is not None:
                counts[f"dropped_{reason}"] += 1
                continue
            example = _example(read, spec, tokens)
            stored = StoredExample(
                example.problem_id, example.num_tokens, sys.intern(example.source), file, files.append(file, example)
            )
            passed.append(Passed(example.problem_id, read.answer.sample, read.answer.num_tokens, stored))
    chosen = best(passed, spec.select.keep_sample, spec.select.keep_length)
    counts[f"dropped_not_{spec.select.keep_sample}"] += len(passed) - len(chosen)
    work.build.counts |= {name: number for name, number in counts.items() if number} | {"kept": len(chosen)}
    examples = [row.example for row in chosen]
    return examples, contamination.matches if contamination.is_checked else None


def _read(work: Work[RowsSpec], counts: Counter[str]) -> Iterator[TrainingRow]:
    """The training rows, checked one by one and together."""
    source, prompt = work.node.spec.rows, work.node.spec.prompt
    asked: dict[str, tuple[int, str]] = {}  # by id, a hash of the questions and the row that has them first
    for where, values in numbered_rows(source, source.limit, streaming=_streams(work.config, source.path)):
        counts["rows"] += 1
        if not is_wanted(values, where, source.only):
            counts["other_rows"] += 1
            continue
        for row in training_rows(values, where, source, prompt):
            questions = hash(tuple(row.questions))
            first = asked.setdefault(row.problem_id, (questions, where))
            if first[0] != questions:
                raise SourceError(
                    f"{where}: the id {row.problem_id!r} is that of another question ({first[1]}); accepted: the same "
                    "id for answers to one question alone, or data.columns={id: null}, which makes ids of the questions"
                )
            yield row


def _streams(config: Config, path: str | None) -> bool:
    """Whether the config streams the rows at ``path``: this is where they are read, and so not in the spec."""
    recipes: list[DataConfig] = [config.data, config.ta_data, *config.compared.values()]
    return any(part.streaming for recipe in recipes for part in recipe.each() if part.path == path)


def _judged(rows: Iterable[TrainingRow], tokens: TokenCounts, graders: Graders) -> Iterator[Read]:
    """The rows with their lengths and verdicts, a chunk at a time."""
    samples: Counter[str] = Counter()
    for chunk in chunks(rows, lambda row: len(row.completion)):
        lengths = tokens.of(chunk)
        verdicts = _verdicts(chunk, graders)
        for row, length, verdict in zip(chunk, lengths, verdicts, strict=True):
            answer = Completion(
                problem_id=row.problem_id,
                sample=samples[row.problem_id],
                prompt_hash="",
                completion=row.completion,
                finish_reason=row.finish_reason,
                num_prompt_tokens=0,
                num_tokens=length,
                seconds=0.0,
            )
            samples[row.problem_id] += 1
            yield Read(row, answer, verdict)


def _verdicts(rows: Sequence[TrainingRow], graders: Graders) -> list[Verdict | None]:
    """The verdict that comes with a row, else that of the grader on its gold answer; None without both."""
    submissions = [Submission(row.problem(row.questions[0]), row.completion, _is_whole(row)) for row in rows]
    open_rows = [index for index, row in enumerate(rows) if row.gold is not None and row.correct is None]
    graded = graders.typed([(submissions[index].problem, prediction(submissions[index])) for index in open_rows])
    by_index = dict(zip(open_rows, graded, strict=True))
    return [by_index.get(index) or _given(submissions[index], row.correct) for index, row in enumerate(rows)]


def _given(submitted: Submission, correct: bool | None) -> Verdict | None:
    if correct is None:
        return None
    return Verdict(prediction=prediction(submitted) or "", correct=correct, reason="of the data set")


def _is_whole(row: TrainingRow) -> bool:
    return row.finish_reason == "stop"


def _reason(read: Read, filters: Filters, spec: RowsSpec) -> str | None:
    """The reason to drop a row, or None."""
    if not read.answer.completion.strip():
        return "empty"
    reason = filters.reason_to_drop(read.answer, read.verdict)
    if reason is not None:
        return reason
    if split(read.answer.completion, spec.rows.thinking).answer is None:
        return "unended_thought"
    form = spec.select.thinking
    if form in ("cot", "answer") and read.verdict is not None and read.verdict.prediction:
        learnt = Submission(read.row.problem(""), _target(read, spec))
        if prediction(learnt) is None:
            return f"no_answer_in_{form}"
    return None


def _target(read: Read, spec: RowsSpec) -> str:
    return target(read.answer.completion, spec.rows.thinking, "", spec.select.thinking)


def _example(read: Read, spec: RowsSpec, tokens: TokenCounts) -> Example:
    """The example of a row. ``num_tokens`` is the length of the text to learn."""
    learnt = _target(read, spec)
    is_cut = learnt != read.row.completion
    return Example(
        problem_id=read.row.problem_id,
        messages=read.row.messages,
        completion=learnt,
        num_tokens=tokens.of([replace(read.row, completion=learnt, num_tokens=0)])[0]
        if is_cut
        else read.answer.num_tokens,
        source=read.row.source or spec.recipe,
        learn_all=read.row.learn_all,
    )


class TokenCounts:
    """Counts tokens of completions with the tokenizer of the spec, which is read when a row needs it first."""

    def __init__(self, spec: RowsSpec) -> None:
        self._model = spec.tokenizer
        self._tokenizer: Any = None

    def of(self, rows: Sequence[TrainingRow]) -> list[int]:
        """The number of tokens of each completion: that of the row where it has one.

        Raises:
            SourceError: the tokenizer cannot read a completion.
        """
        unknown = [index for index, row in enumerate(rows) if not row.num_tokens and row.completion]
        counted = dict(zip(unknown, self._counted([rows[index] for index in unknown]), strict=True))
        return [counted.get(index, row.num_tokens) for index, row in enumerate(rows)]

    def _counted(self, rows: Sequence[TrainingRow]) -> list[int]:
        if not rows:
            return []
        if self._tokenizer is None:
            revision = None if self._model.path.startswith("bundled:") else self._model.revision
            self._tokenizer = load_tokenizer(model_folder(self._model.path), revision)
        try:
            texts = [row.completion for row in rows]
            batch = self._tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        except Exception:  # the library tokenizers raises plain ones; a text alone shows which one it is
            return [self._alone(row) for row in rows]
        return [len(ids) for ids in batch]

    def _alone(self, row: TrainingRow) -> int:
        try:
            return len(token_ids(self._tokenizer, row.completion))
        except SourceError as error:
            raise SourceError(f"{row.where}: {error}") from error


class Contamination:
    """The benchmark problems among the questions of rows with a gold answer; benchmarks are read when one comes.

    ``matches`` are all pairs that are alike.
    """

    def __init__(self, spec: RowsSpec) -> None:
        self._against = spec.decontaminate_against
        self._drops = spec.select.decontaminate
        self._find: Any = None
        self._known: dict[str, str | None] = {}
        self.matches: list[Match] = []

    @property
    def is_checked(self) -> bool:
        return self._find is not None

    def reason(self, row: TrainingRow) -> str | None:
        """The reason to drop a row because a benchmark has its question, or None."""
        if not self._against or row.gold is None:
            return None
        if self._find is None:
            self._find = matcher({name: _benchmark(name, source) for name, source in self._against.items()})
        if row.problem_id not in self._known:
            found = [match for question in row.questions for match in self._find(row.problem(question))]
            self.matches += found
            rule = reasons(found, self._drops).get(row.problem_id)
            self._known[row.problem_id] = rule and f"contaminated_{rule}"
        return self._known[row.problem_id]


def _benchmark(name: str, source: Any) -> Any:
    try:
        return load_problems(source)
    except SourceError as error:
        raise SourceError(
            f"decontaminate_against.{name}: {error}; rows with gold answers are compared with it: choose others with "
            "bench@decontaminate_against=[NAME], or select.decontaminate=none"
        ) from error
