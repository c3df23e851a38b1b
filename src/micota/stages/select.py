"""Raw completions -> the training data of a recipe."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from micota.artifacts.jsonl import each_jsonl, write_jsonl, write_text
from micota.artifacts.row_files import RowFiles, StoredExample, chunks
from micota.config import EvaluationConfig
from micota.data.datacard import CARD, CARD_PAGE, card, markdown
from micota.data.decontamination import Match, find_matches, reasons
from micota.data.filters import Filters, best
from micota.data.mixtures import best_candidates, choose, match, mixture
from micota.data.prompts import messages, split, target
from micota.data.sources import load_problems
from micota.errors import SourceError
from micota.grading.graders import graders_of, prediction, submission
from micota.graph import (
    DataSpec,
    FilteredSpec,
    MatchedSpec,
    MixtureSpec,
    MostLikelySpec,
    RowsSpec,
    likelihood_of,
    parts_of,
)
from micota.graph.specs import MATCHED
from micota.records import BPC, COMPLETIONS, DATA, Completion, Example, ExampleScore, Problem, Verdict
from micota.runtime.inputs import input_path
from micota.runtime.work import Work
from micota.stages.rows import Passed, file_examples

CONTAMINATION = "contamination.jsonl"
Parts = Mapping[str, Sequence[StoredExample]]  # by label
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The rows of a recipe, which ``read`` reads whole; ``card`` has additional entries of its data card, ``matches``
    the pairs of a problem and a like one of a benchmark, None where none was compared."""

    examples: list[StoredExample]
    read: Callable[[StoredExample], Example]
    matches: list[Match] | None = None
    card: dict[str, Any] = field(default_factory=dict)


def select(work: Work[DataSpec]) -> None:
    """Build the data of a recipe with the function that ``BUILDERS`` has for its spec.

    The texts of completions and examples stay on the disk: memory has one chunk of them.
    """
    source = work.node.spec.problems
    problems = load_problems(source) if source else []
    with RowFiles() as files:
        _write(work, BUILDERS[type(work.node.spec)](work, problems, files), problems)


def _write(work: Work[DataSpec], chosen: Chosen, problems: list[Problem]) -> None:
    """Write the rows of a recipe with their card."""
    order = {problem.id: index for index, problem in enumerate(problems)}
    examples = sorted(chosen.examples, key=lambda example: order.get(example.problem_id, len(order)))
    if chosen.matches is not None:  # written here, since data that are refused leave nothing
        write_jsonl(work.build.path / CONTAMINATION, chosen.matches)
    work.build.counts["examples"] = write_jsonl(work.build.path / DATA, map(chosen.read, examples))
    described = card(work.node, work.build.counts, examples) | chosen.card
    write_text(work.build.path / CARD, json.dumps(described, indent=2, ensure_ascii=False) + "\n")
    write_text(work.build.path / CARD_PAGE, markdown(described))
    work.build.metrics["num_tokens"] = described["num_tokens"]["mean"]
    columns = ("problem_id", "source", "num_tokens", "problem", "completion")
    whole = map(chosen.read, examples)  # those that a tracker shows are read again
    table = ((e.problem_id, e.source, e.num_tokens, e.messages[-1]["content"], e.completion) for e in whole)
    work.run.table("data/examples", columns, table)


def filtered(work: Work[FilteredSpec], problems: list[Problem], files: RowFiles) -> Chosen:
    """Completions of one generator that pass all filters."""
    spec, by_id = work.node.spec, {problem.id: problem for problem in problems}
    file = files.open(input_path(work.store, work.node.inputs["completions"]) / COMPLETIONS)
    matches = contamination(spec, problems)
    contaminated = reasons(matches or [], spec.select.decontaminate)
    # Earlier samples come first: of equal completions the filter of duplicates keeps the first.
    samples = [(row.sample, position) for position, row in files.each(file, Completion)]
    in_order = ((at, files.read(file, at, Completion)) for _, at in sorted(samples))
    graded = judged(in_order, by_id, work.config.evaluation)
    kept, dropped = keep(graded, by_id, spec, contaminated, file)
    work.build.counts |= {"completions": len(samples), "kept": len(kept)} | dropped
    return Chosen(
        examples=choose(kept, spec.select.num_examples, spec.seed),
        read=lambda stored: example_of(files.read(stored.file, stored.position, Completion), by_id, spec),
        matches=matches,
    )


def mixed(work: Work[MixtureSpec], problems: list[Problem], files: RowFiles) -> Chosen:
    """Examples of several parts, in the shares of ``spec.weights``."""
    spec, parts = work.node.spec, read_parts(work, files)
    examples = mixture(parts, spec.weights, spec.select.num_examples, spec.seed)
    _count_parts(work, examples, parts, parts)
    return Chosen(examples=examples, read=whole_of(files))


def most_likely_of(work: Work[MostLikelySpec], problems: list[Problem], files: RowFiles) -> Chosen:
    """For each problem the completion that is first by ``select_by`` under the student before SFT, or after a round."""
    spec, parts = work.node.spec, read_parts(work, files)
    work.build.counts["candidates"] = sum(len(rows) for rows in parts.values())
    ranked = candidates(work, parts, parts, spec.select_by)
    if (others := work.node.inputs.get(MATCHED)) is not None:
        wanted = {example.problem_id for example in _stored(files, input_path(work.store, others) / DATA)}
        ranked = [example for example in ranked if example.problem_id in wanted]
    examples = choose(ranked, spec.select.num_examples, spec.seed)
    _count_parts(work, examples, parts, parts)
    return Chosen(examples=examples, read=whole_of(files))


def matched(work: Work[MatchedSpec], problems: list[Problem], files: RowFiles) -> Chosen:
    """The rows of one recipe, chosen together with those of all recipes of the comparison."""
    spec, parts = work.node.spec, read_parts(work, files)
    built = {
        recipe: candidates(work, parts, weights, spec.select_by[recipe])
        for recipe, weights in spec.compared.items()
        if not any(weights.values())
    }
    whole = {recipe: {recipe: 1.0} if recipe in built else weights for recipe, weights in spec.compared.items()}
    recipes, account = match(parts | built, whole, spec.select, spec.seed)
    examples = recipes[spec.compared_as]
    _count_parts(work, examples, parts, spec.compared[spec.compared_as])
    return Chosen(examples=examples, read=whole_of(files), card={"match": account})


def file_rows(work: Work[RowsSpec], problems: list[Problem], files: RowFiles) -> Chosen:
    """Rows of a file, a folder or a set of the hub."""
    spec = work.node.spec
    examples, matches = file_examples(work, files)
    if not examples:
        dropped = [f"{name.removeprefix('dropped_')} {count}" for name, count in work.build.counts.items() if count]
        raise SourceError(
            f"data.path={spec.rows.path!r}: no row is left to train on ({', '.join(dropped)}); accepted: rows that "
            f"pass select.filters=[{', '.join(spec.select.filters)}] and data.only"
        )
    chosen = choose(examples, spec.select.num_examples, spec.seed)
    in_order = sorted(chosen, key=lambda example: example.position)
    return Chosen(examples=in_order, read=whole_of(files), matches=matches)


BUILDERS: dict[type[DataSpec], Callable[[Work[Any], list[Problem], RowFiles], Chosen]] = {
    FilteredSpec: filtered,
    MixtureSpec: mixed,
    MostLikelySpec: most_likely_of,
    MatchedSpec: matched,
    RowsSpec: file_rows,
}


def whole_of(files: RowFiles) -> Callable[[StoredExample], Example]:
    """The function that reads an example with its texts."""
    return lambda stored: files.read(stored.file, stored.position, Example)


def read_parts(work: Work[Any], files: RowFiles) -> dict[str, list[StoredExample]]:
    """The examples of all parts of a recipe."""
    nodes = parts_of(work.node)
    return {label: _stored(files, input_path(work.store, node) / DATA) for label, node in nodes.items()}


def _stored(files: RowFiles, path: Path) -> list[StoredExample]:
    file = files.open(path)
    return [
        StoredExample(row.problem_id, row.num_tokens, sys.intern(row.source), file, position)
        for position, row in files.each(file, Example)
    ]


def candidates(work: Work[Any], parts: Parts, labels: Iterable[str], select_by: str) -> list[StoredExample]:
    """For each problem the completion of the parts ``labels`` that is first by ``select_by``."""
    nodes = {label: work.node.inputs[likelihood_of(label)] for label in labels}
    scores = {label: each_jsonl(input_path(work.store, node) / BPC, ExampleScore) for label, node in nodes.items()}
    return best_candidates({label: parts[label] for label in nodes}, scores, select_by)


def _count_parts(
    work: Work[Any],
    examples: Sequence[StoredExample],
    parts: Parts,
    labels: Iterable[str],
) -> None:
    """Count the rows from each part in the manifest."""
    sources = Counter(example.source for example in examples)
    for label in labels:
        of_part = {example.source for example in parts[label]}  # rows of the user may name several
        work.build.counts[f"from_{label}"] = sum(sources[source] for source in of_part)


def judged(
    rows: Iterable[tuple[int, Completion]], problems: dict[str, Problem], evaluation: EvaluationConfig
) -> Iterator[tuple[int, Completion, Verdict]]:
    """Completions with their positions and the verdicts of the default grader, a chunk at a time."""
    with graders_of(evaluation) as graders:
        for chunk in chunks(rows, lambda row: len(row[1].completion)):
            asked = [(problems[row.problem_id], prediction(submission(row, problems))) for _, row in chunk]
            for (position, row), verdict in zip(chunk, graders.typed(asked), strict=True):
                yield position, row, verdict


def contamination(spec: FilteredSpec, problems: list[Problem]) -> list[Match] | None:
    """All pairs of a problem and a like one of a benchmark; None where no benchmark is compared."""
    if not spec.decontaminate_against:
        return None
    matches = find_matches(problems, {name: load_problems(rows) for name, rows in spec.decontaminate_against.items()})
    found = len({match.problem_id for match in matches})
    logger.info("%d of %d problems are like one of a benchmark; all pairs: %s", found, len(problems), CONTAMINATION)
    return matches


def keep(
    graded: Iterable[tuple[int, Completion, Verdict]],
    problems: dict[str, Problem],
    spec: FilteredSpec,
    contaminated: Mapping[str, str],
    file: int = 0,
) -> tuple[list[StoredExample], dict[str, int]]:
    """Examples from the completions that pass every filter, and the number dropped for each reason.

    ``graded`` are positions in ``file``, completions in the order of their samples, and verdicts.
    """
    filters = Filters(spec.select, spec.thinking)
    passed = []
    dropped: Counter[str] = Counter()
    for position, row, verdict in graded:
        if row.problem_id in contaminated:
            reason: str | None = f"contaminated_{contaminated[row.problem_id]}"
        else:
            reason = filters.reason_to_drop(row, verdict) or unlearnable(row, verdict, problems, spec)
        if reason is None:
            stored = StoredExample(row.problem_id, num_target_tokens(row, spec), spec.recipe, file, position)
            passed.append(Passed(row.problem_id, row.sample, row.num_tokens, stored))
        else:
            dropped[f"dropped_{reason}"] += 1
    chosen = best(passed, spec.select.keep_sample, spec.select.keep_length)
    if len(chosen) < len(passed):
        dropped[f"dropped_not_{spec.select.keep_sample}"] = len(passed) - len(chosen)
    return [row.example for row in chosen], dict(dropped)


def unlearnable(row: Completion, verdict: Verdict, problems: dict[str, Problem], spec: FilteredSpec) -> str | None:
    """The reason why a completion gives no training target, or None: its chain of thought does not end, or the target
    lacks the answer that the whole completion has."""
    if split(row.completion, spec.thinking, row.prefilled).answer is None:
        return "unended_thought"
    form = spec.select.thinking
    if form in ("cot", "answer") and verdict.prediction is not None:
        part = replace(row, completion=target(row.completion, spec.thinking, row.prefilled, form))
        if prediction(submission(part, problems)) is None:
            return f"no_answer_in_{form}"
    return None


def num_target_tokens(row: Completion, spec: FilteredSpec) -> int:
    """The length of what is learnt of a completion, in tokens of the generator."""
    if row.num_cot_tokens is None:
        return row.num_tokens
    lengths = {"cot": row.num_cot_tokens, "answer": row.num_tokens - row.num_cot_tokens}
    return lengths.get(spec.select.thinking, row.num_tokens)


def example_of(row: Completion, problems: dict[str, Problem], spec: FilteredSpec) -> Example:
    """The example of a completion."""
    return Example(
        problem_id=row.problem_id,
        messages=messages(problems[row.problem_id].problem, spec.prompt),
        completion=target(row.completion, spec.thinking, row.prefilled, spec.select.thinking),
        num_tokens=num_target_tokens(row, spec),
        source=spec.recipe,
    )
