"""Completions -> verdicts of every grader, side by side.

``typed`` sends a comparison to the worker processes only if its cheap rules cannot decide it, and sends equal
comparisons once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any, NamedTuple

from micota.artifacts.provenance import num_cores
from micota.config import GRADERS, EvaluationConfig, Grader
from micota.grading import paper_rule
from micota.grading.equality.compare import compare, is_ambiguous
from micota.grading.extraction.extract import NOTHING, Extraction, extract
from micota.grading.extraction.marks import Wanted
from micota.grading.gold import Gold, GoldError, Hints, gold_of, is_settled
from micota.grading.pool import Workers
from micota.grading.reading.moments import CLOCK
from micota.grading.reading.texts import is_option, plain
from micota.grading.reading.words import counted_things
from micota.grading.symbolic import is_worth_trying
from micota.records import AMBIGUOUS, Completion, Problem, Verdict

MAX_KNOWN = 100_000  # replies of worker processes that are kept for equal comparisons
JUDGE = "judge"  # the grader whose verdicts come from ``judge.py``


class Submission(NamedTuple):
    """A completion to be graded. In one that was cut off only a declared answer counts: its last number may be any."""

    problem: Problem
    completion: str
    is_finished: bool = True


class _DeferredError(Exception):
    """The cheap rules cannot decide a comparison."""


def _defer(gold: str, prediction: str, tolerance: Fraction | None) -> bool | None:
    if not is_worth_trying(gold) or not is_worth_trying(prediction):
        return None
    raise _DeferredError


@dataclass
class Graders:
    """The rule graders, with their worker processes; a context manager.

    ``seconds`` is the time limit of one symbolic comparison, ``memory_bytes`` that of each worker process.
    """

    num_workers: int = 1
    seconds: float = 5.0
    memory_bytes: int = 2 * 2**30

    def __post_init__(self) -> None:
        self._workers = Workers(self.num_workers, self.seconds, self.memory_bytes)
        self._known: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Graders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.__exit__(kind, error, trace)

    @property
    def num_replaced(self) -> int:
        """Worker processes that broke a limit and were replaced."""
        return self._workers.num_replaced

    def forget(self) -> None:
        """Clear the cache of replies of the worker processes."""
        self._known.clear()

    def grade(self, rows: Sequence[Submission], rule: str = "hendrycks") -> list[dict[str, Verdict]]:
        """The verdicts on completions, by grader; those of a judge come from ``judge.py``."""
        rules = {name: grader.verdicts for name, grader in GRADERS.items() if grader.verdicts is not None}
        columns = [verdicts(self, rows, rule) for verdicts in rules.values()]
        return [dict(zip(rules, by, strict=True)) for by in zip(*columns, strict=True)]

    def typed(self, rows: Iterable[tuple[Problem, Extraction | str | None]]) -> list[Verdict]:
        """The verdicts of ``typed`` on ``(problem, prediction)`` rows."""
        pairs = [(problem, _extraction(found)) for problem, found in rows]
        parts = [[cheap_verdict_on(problem, answer) for answer in found.answers] for problem, found in pairs]
        questions: dict[str, list[tuple[int, int]]] = {}
        for row, (problem, found) in enumerate(pairs):
            for index, answer in enumerate(found.answers):
                if parts[row][index] is None:
                    questions.setdefault(_question(problem, answer), []).append((row, index))
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
        new = [question for question in questions if question not in self._known]
        for number, reply in self._workers.map((number, json.loads(question)) for number, question in enumerate(new)):
            self._known[new[number]] = reply
        for question, places in questions.items():
            reply = self._known[question]
            for row, index in places:
                answer = pairs[row][1].answers[index]
                parts[row][index] = _verdict(answer, reply["verdict"], reply["reason"])
        return [
            combined(problem, found, [verdict for verdict in verdicts if verdict is not None])
            for (problem, found), verdicts in zip(pairs, parts, strict=True)
        ]

    def unreadable(self, problems: Iterable[Problem]) -> list[Problem]:
        """Problems whose gold is neither plain nor readable as mathematics: only the same text equals it.

        Raises:
            GoldError: an answer is not of its declared type.
        """
        doubtful = [problem for problem in problems if not is_settled(gold_for(problem))]
        requests = ((index, _request(problem)) for index, problem in enumerate(doubtful))
        return [doubtful[index] for index, reply in self._workers.map(requests) if not reply["verdict"]]


def gold_for(problem: Problem) -> Gold:
    """The gold of a problem, by its type.

    Raises:
        GoldError: the answer is not of its declared type.
    """
    return gold_of(problem.answer, problem.answer_type, problem.tolerance, problem.unit, _hints(problem.problem))


_FACTOR = re.compile(r"\\bfactor", re.IGNORECASE)


def _hints(problem: str) -> Hints:
    """What the text of a problem says about its answer."""
    if not problem:
        return Hints()
    return Hints(wants_factors=_FACTOR.search(problem) is not None, things=counted_things(problem))


def extraction(row: Submission) -> Extraction:
    """What ``typed`` takes for the answer, and where it stands."""
    try:
        gold = gold_for(row.problem)
    except GoldError:
        return extract(row.completion, Wanted(is_finished=row.is_finished))
    wanted = Wanted(
        is_number=gold.is_number or any(other.is_number for other in gold.others),
        is_list=gold.kind == "list",
        is_option=gold.kind == "text" and is_option(gold.text),
        is_text=gold.kind == "text" or gold.node is None,
        is_time=CLOCK.match(plain(gold.text)) is not None,
        is_finished=row.is_finished,
        is_coefficient=gold.is_number and "coefficient" in row.problem.problem,
    )
    return extract(row.completion, wanted)


def prediction(row: Submission) -> str | None:
    """The text of the answer that ``typed`` takes; several that differ with a bar between them."""
    return extraction(row).text


def _extraction(found: Extraction | str | None) -> Extraction:
    """A prediction that comes as text is one answer."""
    if found is None:
        return NOTHING
    return Extraction((found,), "") if isinstance(found, str) else found


def cheap_verdict(problem: Problem, found: Extraction | str | None) -> Verdict | None:
    """The verdict where no worker process is needed for one."""
    found = _extraction(found)
    verdicts = [cheap_verdict_on(problem, answer) for answer in found.answers]
    if None in verdicts:
        return None
    return combined(problem, found, [verdict for verdict in verdicts if verdict is not None])


def cheap_verdict_on(problem: Problem, answer: str) -> Verdict | None:
    """The verdict on one answer where no worker process is needed for it."""
    try:
        verdict = compare(gold_for(problem), answer, _defer)
    except _DeferredError:
        return None
    except GoldError as error:
        return _verdict(answer, None, str(error))
    return _verdict(answer, verdict, "rule" if verdict is not None else "not mathematics")


def combined(problem: Problem, found: Extraction, verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on all final answers of a completion: several that differ are ambiguous, and not right."""
    if not verdicts:
        return Verdict(prediction=None, correct=None, reason="no_answer")
    first = verdicts[0]
    same = {verdict.correct for verdict in verdicts}
    if len(verdicts) > 1 and same != {True}:
        return Verdict(
            prediction=found.text, correct=None, reason=_reason(found, f"{AMBIGUOUS}: {len(verdicts)} answers")
        )
    if first.correct is False and is_ambiguous(gold_for(problem), found.answers[0]):
        return Verdict(prediction=found.text, correct=None, reason=_reason(found, f"{AMBIGUOUS}: alternatives"))
    return Verdict(prediction=first.prediction, correct=first.correct, reason=_reason(found, first.reason))


def _reason(found: Extraction, reason: str) -> str:
    """The reason of a verdict: what decided, then the kind of evidence for the answer."""
    return f"{reason} ({found.evidence})" if found.evidence else reason


def by_paper_rule(problem: Problem, completion: str, rule: str) -> Verdict:
    """The verdict of the published rule."""
    predicted = paper_rule.extract(completion, rule)
    if predicted is None:
        return Verdict(prediction=None, correct=None, reason="no_answer")
    return Verdict(prediction=predicted, correct=paper_rule.is_correct(predicted, problem.answer, rule), reason="rule")


def _by_typed(graders: Graders, rows: Sequence[Submission], rule: str) -> list[Verdict]:
    return graders.typed([(row.problem, extraction(row)) for row in rows])


def _by_paper_rule(graders: Graders, rows: Sequence[Submission], rule: str) -> list[Verdict]:
    return [by_paper_rule(row.problem, row.completion, rule) for row in rows]


def _check(grader: Grader) -> None:
    if grader.verdicts is None and grader.name != JUDGE:
        raise TypeError(f"grader {grader.name!r} has no verdicts; only those of {JUDGE} come from elsewhere")


GRADERS.for_each(_check)
GRADERS.add(Grader(name="typed", verdicts=_by_typed))
GRADERS.add(Grader(name="paper_rule", verdicts=_by_paper_rule))
GRADERS.add(Grader(name=JUDGE, verdicts=None))


def _verdict(predicted: str, correct: bool | None, reason: str) -> Verdict:
    return Verdict(
        prediction=predicted, correct=correct, reason=reason if correct is not None else f"ungradable: {reason}"
    )


def _request(problem: Problem) -> dict[str, Any]:
    fields = {"answer": problem.answer, "answer_type": problem.answer_type}
    hints = _hints(problem.problem)
    return {
        "gold": fields | {"tolerance": problem.tolerance, "unit": problem.unit},
        "hints": [hints.wants_factors, sorted(hints.things)],
    }


def _question(problem: Problem, predicted: str | None) -> str:
    return json.dumps(_request(problem) | {"prediction": predicted})


def graders_of(evaluation: EvaluationConfig) -> Graders:
    """Graders with the limits of a config."""
    workers = evaluation.num_workers or num_cores()
    return Graders(num_workers=workers, seconds=evaluation.timeout_s, memory_bytes=evaluation.worker_bytes)


def submission(row: Completion, problems: dict[str, Problem]) -> Submission:
    """A completion as graders take it."""
    return Submission(problems[row.problem_id], row.completion, row.finish_reason != "length")
