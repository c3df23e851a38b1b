"""Raw completions -> the training data of an arm."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from micota.answers.grading import prediction
from micota.artifacts import ArtifactError, read_jsonl, write_jsonl, write_text
from micota.config import EvaluationConfig, SelectConfig
from micota.datacard import CARD, CARD_PAGE, card, markdown
from micota.decontamination import find_matches, reasons
from micota.filters import Filters, best
from micota.graph import DataSpec, likelihood_of
from micota.prompts import messages
from micota.records import BPC, COMPLETIONS, DATA, Completion, Example, ExampleScore, Problem, Verdict
from micota.sources import load_problems
from micota.stages.grading import graders_of, submission
from micota.stages.inputs import input_path, seed_of
from micota.stages.make import Work

CONTAMINATION = "contamination.jsonl"
logger = logging.getLogger(__name__)


def select(work: Work) -> None:
    """Build the data of an arm: filter one author's completions, or mix parts or choose among them, or take the user's
    own rows."""
    spec: DataSpec = work.node.spec
    problems = {problem.id: problem for problem in load_problems(spec.problems)}
    if spec.weights or spec.select_by:
        parts = read_parts(work)
        if spec.weights:
            examples = mixture(parts, spec.weights, spec.select.num_examples, spec.seed)
        else:
            work.build.counts["candidates"] = sum(len(rows) for rows in parts.values())
            examples = choose(most_likely(parts, likelihoods(work, parts)), spec.select, spec.seed)
        work.build.counts |= {
            f"from_{label}": sum(e.source == rows[0].source for e in examples) for label, rows in parts.items()
        }
    elif spec.path is not None:
        examples = choose(read_jsonl(Path(spec.path), Example), spec.select, spec.seed)
    else:
        rows = read_jsonl(input_path(work.store, work.node.inputs["completions"]) / COMPLETIONS, Completion)
        contaminated = decontaminate(work, list(problems.values()))
        graded = verdicts(rows, problems, work.config.evaluation)
        kept, dropped = keep(rows, problems, spec, graded, contaminated)
        work.build.counts |= {"completions": len(rows), "kept": len(kept)} | dropped
        examples = choose(kept, spec.select, spec.seed)
    order = {identity: index for index, identity in enumerate(problems)}
    examples.sort(key=lambda example: order.get(example.problem_id, len(order)))
    work.build.counts["examples"] = write_jsonl(work.build.path / DATA, examples)
    described = card(work.node, work.build.counts, examples)
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


def likelihoods(work: Work, parts: Mapping[str, Sequence[Example]]) -> dict[str, list[ExampleScore]]:
    """The likelihood of each example of each part under the student, in their order."""
    inputs = work.node.inputs
    return {
        label: read_jsonl(input_path(work.store, inputs[likelihood_of(label)]) / BPC, ExampleScore) for label in parts
    }


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
            dropped[f"dropped_contaminated_{contaminated[row.problem_id]}"] += 1
            continue
        reason = filters.reason_to_drop(row, verdict)
        if reason is not None:
            dropped[f"dropped_{reason}"] += 1
            continue
        passed.append(row)
    chosen = best(passed, spec.select.best_of)
    if len(chosen) < len(passed):
        dropped[f"dropped_not_{spec.select.best_of}"] = len(passed) - len(chosen)
    kept = [
        Example(
            problem_id=row.problem_id,
            messages=messages(problems[row.problem_id].problem, spec.prompt),
            completion=row.completion,
            num_tokens=row.num_tokens,
            source=spec.arm,
        )
        for row in chosen
    ]
    return kept, dict(dropped)


def choose(examples: list[Example], select: SelectConfig, seed: int) -> list[Example]:
    """``num_examples`` of them: those whose problems rank first in an order that depends on the seed alone, so that
    arms and sizes share as many problems as they can."""
    if select.num_examples is None:
        if not examples:
            raise ArtifactError("no completion passed the filters; there is nothing to train on")
        return list(examples)
    if len(examples) < select.num_examples:
        raise ArtifactError(
            f"only {len(examples)} examples passed the filters, select.num_examples={select.num_examples}; lower it, "
            "or add problems (nothing is lost: completions are kept)"
        )
    return ranked(examples, seed)[: select.num_examples]


def ranked(examples: list[Example], seed: int) -> list[Example]:
    """In an order that depends on the seed and each problem alone."""
    return sorted(examples, key=lambda example: seed_of("rank", seed, example.problem_id))


def mixture(
    parts: dict[str, list[Example]], weights: dict[str, float], num_examples: int | None, seed: int
) -> list[Example]:
    """Examples of all parts in the proportion of ``weights``; no problem comes twice.

    Without ``num_examples`` the mixture is as large as its scarcest part allows. The rarest part chooses first.
    """
    total = num_examples or min(int(len(parts[label]) / weight) for label, weight in weights.items())
    chosen: list[Example] = []
    taken: set[str] = set()
    labels = sorted(weights, key=lambda label: weights[label])
    for label in labels:
        share = round(total * weights[label]) if label != labels[-1] else total - len(chosen)
        free = [example for example in ranked(parts[label], seed) if example.problem_id not in taken]
        if len(free) < share and num_examples is not None:
            raise ArtifactError(
                f"part {label!r} has {len(free)} problems that no other part uses, and {share} are wanted "
                f"(select.num_examples={num_examples}); lower it"
            )
        chosen += free[:share]
        taken |= {example.problem_id for example in free[:share]}
    return chosen


def most_likely(parts: Mapping[str, Sequence[Example]], scores: Mapping[str, Sequence[ExampleScore]]) -> list[Example]:
    """Of each problem's completions, by any author, the one with the fewest bits per byte; of equals the first."""
    best_of: dict[str, tuple[float, Example]] = {}
    for label, examples in parts.items():
        for example, score in zip(examples, scores[label], strict=True):
            assert example.problem_id == score.problem_id, f"{label}: row {score.index} is about another problem"
            known = best_of.get(example.problem_id)
            if known is None or score.bits_per_byte < known[0]:
                best_of[example.problem_id] = (score.bits_per_byte, example)
    return [example for _, example in best_of.values()]
