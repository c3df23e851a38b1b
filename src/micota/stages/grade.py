"""Completions -> scores, and a file of disagreements between graders for people to read."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from micota.analysis.metrics import flat
from micota.artifacts.jsonl import write_text
from micota.artifacts.row_files import RowFiles, chunks
from micota.artifacts.scores import write_scores
from micota.config import Config, EvaluationConfig
from micota.console import progress_bar
from micota.data.sources import load_labels, load_problems
from micota.errors import SourceError
from micota.grading.disagreements import Disagreements
from micota.grading.graders import graders_of, submission
from micota.grading.groups import grouped
from micota.grading.judge import add_judged
from micota.grading.scores import check_ids, not_prompted, scored, summarise
from micota.graph import ScoresSpec
from micota.graph.node import AnyNode
from micota.records import COMPLETIONS, Completion, Problem, Score
from micota.runtime.work import Work
from micota.stages.budgets import at_budgets
from micota.stages.inspection import check_golds

SUMMARY = "scores.json"
DISAGREEMENTS = "disagreements.md"
logger = logging.getLogger(__name__)


def check(config: Config, node: AnyNode) -> None:
    """Parse all golds of a benchmark before any completion is sampled for it.

    Raises:
        SourceError: a gold is not of its type; the text names the benchmark, the problem and the gold.
    """
    spec: ScoresSpec = node.spec
    check_golds(spec.problems)
    problems = load_problems(spec.problems)
    _labelled(spec, [])  # a column that is missing is an error before any completion is sampled
    with graders_of(config.evaluation) as graders:
        unreadable = graders.unreadable(problems)
    for problem in unreadable:
        if problem.answer_type == "number":
            raise SourceError(
                f"{spec.problems.path}: problem {problem.id}: answer {problem.answer!r} is not of type number: it "
                "cannot be read as mathematics; accepted: a number, or another answer_type"
            )
        logger.warning("%s: gold %r is compared as text alone", problem.id, problem.answer)


class Answer(NamedTuple):
    """Where a completion is, in the order of the problems and samples."""

    order: int
    sample: int
    position: int
    problem_id: str


def grade(work: Work[ScoresSpec]) -> None:
    """Grade stored completions by every grader. Truncated, unanswered, ungradable and incorrect completions are counted
    apart; none of them counts as correct. Memory has the texts of one chunk of completions."""
    problems = {problem.id: problem for problem in load_problems(work.node.spec.problems)}
    folder = work.store.verified(work.node.inputs["completions"])
    with RowFiles() as files:
        file = files.open(folder / COMPLETIONS)
        answers = _answers(files, file, problems, str(folder), work.node.spec.problems.path)

        def rows() -> Iterator[Completion]:
            return (files.read(file, answer.position, Completion) for answer in answers)

        scores = _scores(work, rows, answers, problems)
        write_scores(work.build.path, scores)
        whole = summarise(scores)
        summary = whole | {"seconds_per_right": None}  # without times: what depends on the answers alone
        write_text(work.build.path / SUMMARY, json.dumps(summary, indent=2) + "\n")
        work.build.counts |= {"scores": len(scores)} | summary["outcomes"]
        work.build.metrics |= {
            "accuracy": summary["accuracy"],
            "accuracy_low": summary["low"],
            "accuracy_high": summary["high"],
            "num_tokens": summary["num_tokens"],
        }
        work.build.metrics |= {f"accuracy_{name}": value for name, value in summary["graders"].items()} | flat(whole)
        _track(work, scores, problems, lambda: _texts(files, file, answers))


def _answers(files: RowFiles, file: int, problems: dict[str, Problem], where: str, benchmark: str) -> list[Answer]:
    """The completions in the order of problems and samples."""
    order = {identity: index for index, identity in enumerate(problems)}
    answers = [
        Answer(order.get(row.problem_id, -1), row.sample, position, row.problem_id)
        for position, row in files.each(file, Completion)
    ]
    check_ids(answers, problems, where, benchmark)
    return sorted(answers)


def _scores(
    work: Work[ScoresSpec],
    rows: Callable[[], Iterator[Completion]],
    answers: Sequence[Answer],
    problems: dict[str, Problem],
) -> list[Score]:
    """The scores of all samples, with what is measured of them; writes the page of disagreements."""
    spec = work.node.spec
    scores = _graded(work, rows(), len(answers), problems)
    # Every problem has the same number of scores, so that all models are compared on the same problems. A problem whose
    # prompt was too long gets scores without a completion.
    present = {answer.problem_id for answer in answers}
    num_samples = work.node.inputs["completions"].spec.sampling.num_samples
    absent = [problem for problem in problems.values() if problem.id not in present]
    scores += [not_prompted(problem, sample, spec.grader) for problem in absent for sample in range(num_samples)]
    order = {identity: index for index, identity in enumerate(problems)}
    scores.sort(key=lambda score: (order[score.problem_id], score.sample))
    scores = _labelled(spec, scores)
    if num_samples > 1:
        with graders_of(work.config.evaluation) as graders:
            scores = grouped(scores, problems, graders, spec.problems.paper_rule)
    return at_budgets(work, rows(), scores, problems) if spec.budgets else scores


def _labelled(spec: ScoresSpec, scores: Sequence[Score]) -> list[Score]:
    """The scores with the level and subject of their problems."""
    levels, subjects = (
        load_labels(spec.problems, column, key) if column is not None else {}
        for key, column in (("level_column", spec.level_column), ("subject_column", spec.subject_column))
    )
    return [
        replace(score, level=levels.get(score.problem_id), subject=subjects.get(score.problem_id)) for score in scores
    ]


def _graded(
    work: Work[ScoresSpec], rows: Iterator[Completion], total: int, problems: dict[str, Problem]
) -> list[Score]:
    """The scores of completions by all graders, a chunk at a time, with a progress bar."""
    evaluation: EvaluationConfig = work.config.evaluation
    spec, page = work.node.spec, Disagreements(problems)
    scores: list[Score] = []
    num_right = 0
    with graders_of(evaluation) as graders, progress_bar(work.console, work.build.path) as bar:
        task = bar.add_task(f"grade {work.node.name}", total=total, note="")
        for chunk in chunks(rows, lambda row: len(row.completion)):
            verdicts = graders.grade([submission(row, problems) for row in chunk], spec.problems.paper_rule)
            if evaluation.judge.url is not None:
                for _ in add_judged(verdicts, [problems[row.problem_id] for row in chunk], evaluation.judge):
                    pass
            page.add(chunk, verdicts)
            scores += scored(chunk, problems, verdicts, spec.grader)
            num_right += sum(by["typed"].correct is True for by in verdicts)
            bar.update(task, completed=len(scores), note=f"{num_right / len(scores):.0%} right")
        work.build.counts["workers_replaced"] = graders.num_replaced
    write_text(work.build.path / DISAGREEMENTS, page.page())
    return scores


def _texts(files: RowFiles, file: int, answers: Sequence[Answer]) -> Callable[[Score], str | None]:
    """The function that reads the completion of a score; None for a problem that was not prompted."""
    at = {(answer.problem_id, answer.sample): answer.position for answer in answers}

    def text(score: Score) -> str | None:
        position = at.get((score.problem_id, score.sample))
        return None if position is None else files.read(file, position, Completion).completion

    return text


def _track(
    work: Work[ScoresSpec],
    scores: Sequence[Score],
    problems: dict[str, Problem],
    texts: Callable[[], Callable[[Score], str | None]],
) -> None:
    """Log the table of answers to the tracker. It has the same problems for every model."""
    columns = ["problem_id", "problem", "answer", "prediction", "outcome", "reason", "num_tokens", "completion"]

    def table() -> Iterator[list[Any]]:  # only the rows that the tracker takes are read
        text = texts()
        for score in scores:
            yield [
                score.problem_id,
                problems[score.problem_id].problem,
                score.answer,
                score.prediction,
                score.outcome,
                score.reason,
                score.num_tokens,
                text(score),
            ]

    work.run.table(f"eval/{work.node.benchmark}/answers", columns, table())
