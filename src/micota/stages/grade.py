"""Completions -> scores, and a file of disagreements between graders for people to read."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from micota.analysis.metrics import flat
from micota.artifacts.jsonl import read_jsonl, write_text
from micota.artifacts.scores import without_seconds, write_scores
from micota.config import Config, EvaluationConfig
from micota.console import progress_bar
from micota.data.sources import load_labels, load_problems
from micota.errors import SourceError
from micota.grading.disagreements import disagreements
from micota.grading.gold import GoldError, listed
from micota.grading.graders import Submission, gold_for, graders_of, submission
from micota.grading.groups import grouped
from micota.grading.judge import add_judged
from micota.grading.scores import check_ids, not_prompted, scored, summarise
from micota.graph import ScoresSpec
from micota.graph.node import AnyNode
from micota.records import COMPLETIONS, Completion, Problem, Score, Verdict
from micota.runtime.work import Work
from micota.stages.budgets import at_budgets

SUMMARY = "scores.json"
DISAGREEMENTS = "disagreements.md"
CHUNK = 512  # rows between two steps of the progress bar
logger = logging.getLogger(__name__)


def check(config: Config, node: AnyNode) -> None:
    """Parse all golds of a benchmark before any completion is sampled for it.

    Raises:
        SourceError: a gold is not of its type; the text names the benchmark, the problem and the gold.
    """
    spec: ScoresSpec = node.spec
    problems = load_problems(spec.problems)
    _labelled(spec, [])  # a column that is missing is an error before any completion is sampled
    bad = []
    for problem in problems:
        try:
            gold_for(problem)
        except GoldError as error:
            bad.append(f"{spec.problems.path}: problem {problem.id}: {error}")
    if bad:
        raise SourceError(listed(bad))
    with graders_of(config.evaluation) as graders:
        unreadable = graders.unreadable(problems)
    for problem in unreadable:
        if problem.answer_type == "number":
            raise SourceError(
                f"{spec.problems.path}: problem {problem.id}: answer {problem.answer!r} is not of type number: it "
                "cannot be read as mathematics"
            )
        logger.warning("%s: gold %r is compared as text alone", problem.id, problem.answer)


def grade(work: Work[ScoresSpec]) -> None:
    """Grade stored completions by every grader. Truncated, unanswered, ungradable and incorrect completions are counted
    apart; none of them counts as correct."""
    spec = work.node.spec
    problems = {problem.id: problem for problem in load_problems(spec.problems)}
    completions = work.node.inputs["completions"]
    folder = work.store.verified(completions)
    rows = read_jsonl(folder / COMPLETIONS, Completion)
    check_ids(rows, problems, str(folder), spec.problems.path)
    order = {identity: index for index, identity in enumerate(problems)}
    rows.sort(key=lambda row: (order[row.problem_id], row.sample))
    verdicts = verdicts_on([submission(row, problems) for row in rows], work, spec.problems.paper_rule)
    scores = scored(rows, problems, verdicts, spec.grader)
    # Every problem has the same number of scores, so that all models are compared on the same problems. A problem whose
    # prompt was too long gets scores without a completion.
    present = {row.problem_id for row in rows}
    num_samples = completions.spec.sampling.num_samples
    absent = [problem for problem in problems.values() if problem.id not in present]
    scores += [not_prompted(problem, sample, spec.grader) for problem in absent for sample in range(num_samples)]
    scores.sort(key=lambda score: (order[score.problem_id], score.sample))
    scores = _labelled(spec, scores)
    if num_samples > 1:
        with graders_of(work.config.evaluation) as graders:
            scores = grouped(scores, problems, graders, spec.problems.paper_rule)
    if spec.budgets:
        scores = at_budgets(work, rows, scores, problems)
    write_scores(work.build.path, scores)
    texts = {(row.problem_id, row.sample): row.completion for row in rows}
    write_text(work.build.path / DISAGREEMENTS, disagreements(rows, verdicts, problems))
    summary = summarise(without_seconds(scores))
    write_text(work.build.path / SUMMARY, json.dumps(summary, indent=2) + "\n")
    work.build.counts |= {"scores": len(scores)} | summary["outcomes"]
    work.build.metrics |= {
        "accuracy": summary["accuracy"],
        "accuracy_low": summary["low"],
        "accuracy_high": summary["high"],
        "num_tokens": summary["num_tokens"],
    }
    work.build.metrics |= {f"accuracy_{name}": value for name, value in summary["graders"].items()} | flat(
        summarise(scores)
    )
    _track(work, scores, summary, problems, texts)


def _labelled(spec: ScoresSpec, scores: Sequence[Score]) -> list[Score]:
    """The scores with the level and subject of their problems."""
    levels, subjects = (
        load_labels(spec.problems, column, key) if column is not None else {}
        for key, column in (("level_column", spec.level_column), ("subject_column", spec.subject_column))
    )
    return [
        replace(score, level=levels.get(score.problem_id), subject=subjects.get(score.problem_id)) for score in scores
    ]


def verdicts_on(rows: list[Submission], work: Work[ScoresSpec], rule: str) -> list[dict[str, Verdict]]:
    """The verdicts of all graders, with a progress bar."""
    evaluation: EvaluationConfig = work.config.evaluation
    verdicts: list[dict[str, Verdict]] = []
    with graders_of(evaluation) as graders, progress_bar(work.console, work.build.path) as bar:
        task = bar.add_task(f"grade {work.node.name}", total=len(rows), note="")
        for start in range(0, len(rows), CHUNK):
            verdicts += graders.grade(rows[start : start + CHUNK], rule)
            right = sum(by["typed"].correct is True for by in verdicts)
            bar.update(task, completed=len(verdicts), note=f"{right / len(verdicts):.0%} right")
        work.build.counts["workers_replaced"] = graders.num_replaced
    if evaluation.judge.url is not None:
        with progress_bar(work.console, work.build.path) as bar:
            task = bar.add_task(f"judge {work.node.name}", total=len(rows), note=evaluation.judge.model)
            for _ in add_judged(verdicts, [row.problem for row in rows], evaluation.judge):
                bar.update(task, advance=1)
    return verdicts


def _track(
    work: Work[ScoresSpec],
    scores: Sequence[Score],
    summary: dict[str, Any],
    problems: dict[str, Problem],
    texts: dict[tuple[str, int], str],
) -> None:
    """Log the table of answers to the tracker. It has the same problems for every model."""
    benchmark = work.node.benchmark
    columns = ["problem_id", "problem", "answer", "prediction", "outcome", "reason", "num_tokens", "completion"]
    table = [
        [
            score.problem_id,
            problems[score.problem_id].problem,
            score.answer,
            score.prediction,
            score.outcome,
            score.reason,
            score.num_tokens,
            texts.get((score.problem_id, score.sample)),
        ]
        for score in scores
    ]
    work.run.table(f"eval/{benchmark}/answers", columns, table)
