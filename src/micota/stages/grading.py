"""Completions -> graded scores, and the file of disagreements that people read."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from micota.answers.gold import GoldError
from micota.answers.grading import Graders, Submission, gold_for
from micota.answers.judge import judged
from micota.artifacts import num_cores, read_jsonl, write_jsonl, write_text
from micota.config import Config, ConfigError, EvaluationConfig
from micota.console import progress_bar
from micota.graph import ScoresSpec
from micota.records import COMPLETIONS, NOT_ASKED, SCORES, Completion, Node, Problem, Score, Verdict
from micota.sources import SourceError, load_problems
from micota.stages.make import Work
from micota.statistics import average_at_k

SUMMARY = "scores.json"
DISAGREEMENTS = "disagreements.md"
CHUNK = 512  # rows between two steps of the progress bar
TAIL_CHARS = 400  # of a completion in the file of disagreements
logger = logging.getLogger(__name__)


def graders_of(evaluation: EvaluationConfig) -> Graders:
    """Graders with the limits of a config."""
    workers = evaluation.num_workers or num_cores()
    return Graders(num_workers=workers, seconds=evaluation.answer_s, memory_bytes=evaluation.worker_bytes)


def check(config: Config, node: Node) -> None:
    """Read all golds of a benchmark before any answer is drawn for it.

    Raises:
        SourceError: a gold is not of its type; the text names the benchmark, the problem and the gold.
    """
    spec: ScoresSpec = node.spec
    problems = load_problems(spec.problems)
    for problem in problems:
        try:
            gold_for(problem)
        except GoldError as error:
            raise SourceError(f"{spec.problems.path}: problem {problem.id}: {error}") from None
    with graders_of(config.evaluation) as graders:
        unreadable = graders.unreadable(problems)
    for problem in unreadable:
        if problem.answer_type == "number":
            raise SourceError(
                f"{spec.problems.path}: problem {problem.id}: answer {problem.answer!r} is not of type number: it "
                "cannot be read as mathematics"
            )
        logger.warning("%s: gold %r is compared as text alone", problem.id, problem.answer)


def grade(work: Work) -> None:
    """Grade stored completions by every grader. Missing is not wrong: truncated, without an answer, ungradable and
    incorrect are counted apart, though none of them counts as right."""
    spec: ScoresSpec = work.node.spec
    problems = {problem.id: problem for problem in load_problems(spec.problems)}
    completions = work.node.inputs["completions"]
    rows = read_jsonl(work.store.path(completions) / COMPLETIONS, Completion)
    check_ids(rows, problems, str(work.store.path(completions)), spec.problems.path)
    order = {identity: index for index, identity in enumerate(problems)}
    rows.sort(key=lambda row: (order[row.problem_id], row.sample))
    verdicts = verdicts_on([submission(row, problems) for row in rows], work, spec.problems.paper_rule)
    scores = [score_of(row, problems[row.problem_id], by, spec.grader) for row, by in zip(rows, verdicts, strict=True)]
    # Every problem has as many scores, so that all models are judged on the same ones, also where one could not be
    # asked.
    present = {row.problem_id for row in rows}
    num_samples = completions.spec.sampling.num_samples
    absent = [problem for problem in problems.values() if problem.id not in present]
    scores += [_not_asked(problem, sample, spec.grader) for problem in absent for sample in range(num_samples)]
    scores.sort(key=lambda score: (order[score.problem_id], score.sample))
    write_jsonl(work.build.path / SCORES, scores)
    texts = {(row.problem_id, row.sample): row.completion for row in rows}
    write_text(work.build.path / DISAGREEMENTS, disagreements(rows, verdicts, problems))
    summary = summarise(scores)
    write_text(work.build.path / SUMMARY, json.dumps(summary, indent=2) + "\n")
    work.build.counts |= {"scores": len(scores)} | summary["outcomes"]
    work.build.metrics |= {
        "accuracy": summary["accuracy"],
        "accuracy_low": summary["low"],
        "accuracy_high": summary["high"],
        "num_tokens": summary["num_tokens"],
    } | {f"accuracy_{name}": value for name, value in summary["graders"].items()}
    _track(work, scores, summary, problems, texts)


def check_ids(rows: Sequence[Completion], problems: dict[str, Problem], where: str, benchmark: str) -> None:
    """Refuse completions of another benchmark.

    Raises:
        ConfigError: a completion answers a problem that the benchmark does not have.
    """
    foreign = [row.problem_id for row in rows if row.problem_id not in problems]
    if foreign:
        raise ConfigError(
            f"{where}: {len(foreign)} of {len(rows)} completions answer problems that {benchmark} does not have, as "
            f"{foreign[0]!r}; these are completions of another benchmark"
        )


def submission(row: Completion, problems: dict[str, Problem]) -> Submission:
    """A completion as graders take it."""
    return Submission(problems[row.problem_id], row.completion, row.finish_reason != "length")


def verdicts_on(rows: list[Submission], work: Work, rule: str) -> list[dict[str, Verdict]]:
    """The verdicts of all graders, with a progress bar."""
    evaluation: EvaluationConfig = work.config.evaluation
    verdicts: list[dict[str, Verdict]] = []
    with graders_of(evaluation) as graders, progress_bar(work.console) as bar:
        task = bar.add_task(f"grade {work.node.name}", total=len(rows), note="")
        for start in range(0, len(rows), CHUNK):
            verdicts += graders.grade(rows[start : start + CHUNK], rule)
            right = sum(by["typed"].correct is True for by in verdicts)
            bar.update(task, completed=len(verdicts), note=f"{right / len(verdicts):.0%} right")
        work.build.counts["workers_replaced"] = graders.num_replaced
    if evaluation.judge.url is not None:
        predictions = [(row.problem, by["typed"].prediction) for row, by in zip(rows, verdicts, strict=True)]
        with progress_bar(work.console) as bar:
            task = bar.add_task(f"judge {work.node.name}", total=len(rows), note=evaluation.judge.model)
            for index, verdict in judged(predictions, evaluation.judge):
                verdicts[index]["judge"] = verdict
                bar.update(task, advance=1)
    return verdicts


def score_of(row: Completion, problem: Problem, by: dict[str, Verdict], grader: str) -> Score:
    """A graded completion, scored by one of the graders."""
    chosen = by[grader]
    return Score(
        problem_id=row.problem_id,
        sample=row.sample,
        prediction=chosen.prediction,
        correct=chosen.correct,
        reason=chosen.reason,
        answer=problem.answer,
        grader=grader,
        graders={name: verdict.correct for name, verdict in by.items()},
        finish_reason=row.finish_reason,
        num_tokens=row.num_tokens,
    )


def _not_asked(problem: Problem, sample: int, grader: str) -> Score:
    """The score of a problem whose prompt leaves no room for an answer."""
    return Score(
        problem_id=problem.id,
        sample=sample,
        prediction=None,
        correct=None,
        reason=NOT_ASKED,
        answer=problem.answer,
        grader=grader,
        graders={},
        finish_reason=NOT_ASKED,
        num_tokens=0,
    )


def summarise(scores: Sequence[Score]) -> dict[str, Any]:
    """What ``scores.json`` holds: accuracy (avg@k over problems) with its 95 % interval, the four ways of not being
    right, and the accuracy by each grader."""
    rights = by_problem(scores)
    accuracy = average_at_k(rights)
    names = sorted({name for score in scores for name in score.graders})
    return {
        "grader": scores[0].grader,
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "standard_error": accuracy.standard_error,
        "num_problems": len(rights),
        "num_samples": accuracy.num_samples,
        "outcomes": dict(Counter(score.outcome for score in scores)),
        "graders": {name: sum(score.graders.get(name) is True for score in scores) / len(scores) for name in names},
        "num_tokens": sum(score.num_tokens for score in scores) / len(scores),
    }


def by_problem(scores: Sequence[Score]) -> dict[str, list[float]]:
    """1 or 0 for each sample of each problem."""
    rights: dict[str, list[float]] = {}
    for score in scores:
        rights.setdefault(score.problem_id, []).append(float(score.correct is True))
    return rights


def disagreements(
    rows: Sequence[Completion], verdicts: Sequence[dict[str, Verdict]], problems: dict[str, Problem]
) -> str:
    """A page of Markdown with every completion that one grader calls right and another does not."""
    disputed = [
        (row, by)
        for row, by in zip(rows, verdicts, strict=True)
        if len({verdict.correct is True for verdict in by.values()}) > 1
    ]
    parts = [f"# Disagreements between graders: {len(disputed)} of {len(rows)} completions\n"]
    for row, by in disputed:
        problem = problems[row.problem_id]
        lines = [f"## {row.problem_id}, sample {row.sample}\n", f"gold: `{problem.answer}` ({problem.answer_type})\n"]
        lines += ["| grader | says | took for the answer | because |", "|---|---|---|---|"]
        words = {True: "right", False: "wrong", None: "cannot tell"}
        for name, verdict in by.items():
            seen = _cell(verdict.prediction) if verdict.prediction is not None else ""
            lines.append(f"| {name} | {words[verdict.correct]} | {seen} | {verdict.reason} |")
        lines += ["\n<details><summary>problem and end of the completion</summary>\n"]
        lines += _quoted(problem.problem), "\n…\n", _quoted(row.completion[-TAIL_CHARS:]), "\n</details>\n"
        parts.append("\n".join(lines))
    return "\n".join(parts)


def _cell(text: str, limit: int = 120) -> str:
    """Text of a model in one cell of a Markdown table."""
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return "`" + " ".join(short.split()).replace("|", "\\|").replace("`", "'") + "`"


def _quoted(text: str) -> str:
    return "\n".join("    " + line for line in text.encode("utf-8", "replace").decode().splitlines())


def _track(
    work: Work,
    scores: Sequence[Score],
    summary: dict[str, Any],
    problems: dict[str, Problem],
    texts: dict[tuple[str, int], str],
) -> None:
    """The table of answers to the tracker: those to the same problems for every model."""
    benchmark = work.node.name.rpartition("@")[2]
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
