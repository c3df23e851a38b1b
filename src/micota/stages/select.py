"""Raw completions -> the training data of an arm."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from micota.answers.grading import prediction
from micota.artifacts import read_jsonl, write_jsonl, write_text
from micota.config import EvaluationConfig
from micota.datacard import CARD, CARD_PAGE, card, markdown
from micota.decontamination import find_matches, reasons
from micota.filters import Filters, best
from micota.graph import DataSpec, likelihood_of
from micota.prompts import messages, split, target
from micota.records import BPC, COMPLETIONS, DATA, Completion, Example, ExampleScore, Problem, Verdict
from micota.sources import load_problems
from micota.stages.grading import graders_of, submission
from micota.stages.inputs import input_path
from micota.stages.make import Work
from micota.stages.matching import choose, match, mixture, most_likely

CONTAMINATION = "contamination.jsonl"
logger = logging.getLogger(__name__)


def select(work: Work) -> None:
    """Build the data of an arm: filter one author's completions, mix parts, match what others have, or take the user's
    own rows."""
    spec: DataSpec = work.node.spec
    problems = {problem.id: problem for problem in load_problems(spec.problems)}
    more: dict[str, Any] = {}
    if spec.weights or spec.select_by:
        parts = read_parts(work)
        chosen_from = candidates(work, parts)
        if spec.compared:
            whole = {arm: {arm: 1.0} if arm in chosen_from else weights for arm, weights in spec.compared.items()}
            arms, more["match"] = match(parts | chosen_from, whole, spec.select, spec.seed)
            examples = arms[str(spec.compared_as)]
        elif spec.weights:
            examples = mixture(parts, spec.weights, spec.select.num_examples, spec.seed)
        else:
            examples = choose(chosen_from[spec.arm], spec.select.num_examples, spec.seed)
        sources = Counter(example.source for example in examples)
        own = spec.compared[str(spec.compared_as)] if spec.compared else parts
        work.build.counts |= {f"from_{label}": sources[parts[label][0].source] for label in own}
    elif spec.path is not None:
        examples = choose(read_jsonl(Path(spec.path), Example), spec.select.num_examples, spec.seed)
    else:
        rows = read_jsonl(input_path(work.store, work.node.inputs["completions"]) / COMPLETIONS, Completion)
        contaminated = decontaminate(work, list(problems.values()))
        graded = verdicts(rows, problems, work.config.evaluation)
        kept, dropped = keep(rows, problems, spec, graded, contaminated)
        work.build.counts |= {"completions": len(rows), "kept": len(kept)} | dropped
        examples = choose(kept, spec.select.num_examples, spec.seed)
    order = {identity: index for index, identity in enumerate(problems)}
    examples.sort(key=lambda example: order.get(example.problem_id, len(order)))
    work.build.counts["examples"] = write_jsonl(work.build.path / DATA, examples)
    described = card(work.node, work.build.counts, examples) | more
    write_text(work.build.path / CARD, json.dumps(described, indent=2, ensure_ascii=False) + "\n")
    write_text(work.build.path / CARD_PAGE, markdown(described))
    work.build.metrics["num_tokens"] = described["num_tokens"]["mean"]
    columns = ("problem_id", "source", "num_tokens", "problem", "completion")
    table = [(e.problem_id, e.source, e.num_tokens, e.messages[-1]["content"], e.completion) for e in examples]
    work.run.table("data/examples", columns, table)


def read_parts(work: Work) -> dict[str, list[Example]]:
    """The examples of all parts of an arm."""
    nodes = {label: node for label, node in work.node.inputs.items() if node.kind == "data"}
    return {label: read_jsonl(input_path(work.store, node) / DATA, Example) for label, node in nodes.items()}


def candidates(work: Work, parts: Mapping[str, Sequence[Example]]) -> dict[str, list[Example]]:
    """Of every arm that takes the likeliest completion of each problem, what it takes, by arm."""
    spec: DataSpec = work.node.spec
    arms = {arm: list(weights) for arm, weights in spec.compared.items() if not any(weights.values())}
    if spec.select_by and not spec.compared:
        arms = {spec.arm: list(parts)}
        work.build.counts["candidates"] = sum(len(rows) for rows in parts.values())
    found = {}
    for arm, labels in arms.items():
        nodes = {label: work.node.inputs[likelihood_of(label)] for label in labels}
        scores = {label: read_jsonl(input_path(work.store, node) / BPC, ExampleScore) for label, node in nodes.items()}
        found[arm] = most_likely({label: parts[label] for label in labels}, scores)
    return found


def verdicts(rows: list[Completion], problems: dict[str, Problem], evaluation: EvaluationConfig) -> list[Verdict]:
    """What the default grader says of each completion."""
    with graders_of(evaluation) as graders:
        return graders.typed([(problems[row.problem_id], prediction(submission(row, problems))) for row in rows])


def decontaminate(work: Work, problems: list[Problem]) -> dict[str, str]:
    """The problems to drop for being in a benchmark, by the rule that found them; all pairs are written for people."""
    spec: DataSpec = work.node.spec
    if not spec.held_out:
        return {}
    matches = find_matches(problems, {name: load_problems(rows) for name, rows in spec.held_out.items()})
    write_jsonl(work.build.path / CONTAMINATION, matches)
    found = reasons(matches, spec.select.decontaminate)
    logger.info("%d of %d problems are in a benchmark; all pairs: %s", len(found), len(problems), CONTAMINATION)
    return found


def keep(
    rows: list[Completion],
    problems: dict[str, Problem],
    spec: DataSpec,
    graded: list[Verdict],
    contaminated: Mapping[str, str],
) -> tuple[list[Example], dict[str, int]]:
    """Examples from the completions that pass every filter, and how many were dropped for which reason."""
    filters = Filters(spec.select)
    passed = []
    dropped: Counter[str] = Counter()
    for row, verdict in sorted(zip(rows, graded, strict=True), key=lambda pair: pair[0].sample):
        if row.problem_id in contaminated:
            reason: str | None = f"contaminated_{contaminated[row.problem_id]}"
        else:
            reason = filters.reason_to_drop(row, verdict) or unlearnable(row, verdict, problems, spec)
        if reason is None:
            passed.append(row)
        else:
            dropped[f"dropped_{reason}"] += 1
    chosen = best(passed, spec.select.best_of)
    if len(chosen) < len(passed):
        dropped[f"dropped_not_{spec.select.best_of}"] = len(passed) - len(chosen)
    return [_example(row, problems, spec) for row in chosen], dict(dropped)


def unlearnable(row: Completion, verdict: Verdict, problems: dict[str, Problem], spec: DataSpec) -> str | None:
    """Why no target can be made of what a model wrote that thinks: its thought does not end, or what is to be learnt of
    it lacks the answer that the whole has."""
    if split(row.completion, spec.thinking, row.prefilled).answer is None:
        return "unended_thought"
    form = spec.select.thinking
    if form in ("cot", "answer") and verdict.prediction is not None:
        part = replace(row, completion=target(row.completion, spec.thinking, row.prefilled, form))
        if prediction(submission(part, problems)) is None:
            return f"no_answer_in_{form}"
    return None


def _example(row: Completion, problems: dict[str, Problem], spec: DataSpec) -> Example:
    """What is to be learnt of a completion; its length is that of the part of it, in the author's tokens."""
    form = spec.select.thinking
    num_cot = row.num_cot_tokens
    lengths = {} if num_cot is None else {"cot": num_cot, "answer": row.num_tokens - num_cot}
    return Example(
        problem_id=row.problem_id,
        messages=messages(problems[row.problem_id].problem, spec.prompt),
        completion=target(row.completion, spec.thinking, row.prefilled, form),
        num_tokens=lengths.get(form, row.num_tokens),
        source=spec.arm,
    )
