"""A model and problems -> how many answers and scores differ when the same evaluation runs again.

Greedy decoding takes the most likely token, and the last bits of a logit depend on the order of sums: on the shape of
the batch, on the number of threads, and on the kernels of the engine. Where two tokens are nearly as likely, another
order can swap them, and from there the answers differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from micota.artifacts.jsonl import write_jsonl
from micota.artifacts.store import discard
from micota.config import EngineConfig
from micota.data.sources import load_problems
from micota.engines.auto import as_engine
from micota.engines.evaluator import Evaluator, scores_of
from micota.errors import ConfigError
from micota.grading.graders import graders_of
from micota.graph.specs import DeterminismSpec
from micota.records import REPETITIONS, Completion, Problem, Repetition
from micota.runtime.inputs import close_engine, engine_for
from micota.runtime.work import Work
from micota.stages.kept_answers import KeptAnswers

FIRST, AGAIN = "first", "the same again"
ANSWERS = "answers"  # the folder of those that are kept
Sample = tuple[str, int]  # a problem and the number of its answer


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One run of the evaluation: its label, its engine and threads, and the label of the run that it is compared with
    (None: the first)."""

    label: str
    engine: EngineConfig
    num_threads: int
    against: str | None = FIRST


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The texts and scores of one run, by sample."""

    texts: Mapping[Sample, str]
    scores: Mapping[Sample, bool | None]


def determinism(work: Work[DeterminismSpec]) -> None:
    """Run the evaluation once, then with each variant, and write one row for each run. The answers of each run are kept
    until all have ended: an audit that was stopped goes on after them.

    Raises:
        ConfigError: a prompt cannot be rendered, or none fits.
    """
    spec, threads = work.node.spec, torch.get_num_threads()
    discard(work.build.path, [ANSWERS])
    found: dict[str, Answered] = {}
    rows: list[Repetition] = []
    try:
        for variant in variants(spec, work.config.engine, threads):
            found[variant.label] = _answered(work, variant)
            rows.append(compared(variant, found))
    finally:
        torch.set_num_threads(threads)
    rows += [_left_out(name, reason) for name, reason in left_out(spec, work.config.engine).items()]
    write_jsonl(work.build.path / REPETITIONS, rows)
    again = [row for row in rows if row.against is not None and not row.left_out]
    work.build.counts |= {"repetitions": len(again), "answers": rows[0].num_answers}
    work.build.metrics |= {
        "share_answers": max(row.share_answers for row in again),
        "share_scores": max(row.share_scores for row in again),
    }


def variants(spec: DeterminismSpec, engine: EngineConfig, threads: int) -> Iterator[Variant]:
    """The first run and all repetitions; ``threads`` are those that torch has."""
    first = Variant(label=FIRST, engine=engine, num_threads=threads, against=None)
    yield first
    yield replace(first, label=AGAIN, against=FIRST)
    for size in spec.batch_sizes:
        if size != engine.rows:
            yield Variant(label=f"batch of {size}", engine=replace(engine, batch_size=size), num_threads=threads)
    if _computes_on_cpu(engine):
        for count in spec.num_threads:
            if count != threads:
                yield Variant(label=f"{count} threads", engine=engine, num_threads=count)
    for name in spec.engines:
        if name != engine.name and not engine.is_elsewhere:
            other = replace(as_engine(engine, name), batch_size=None)
            yield Variant(label=f"engine={name}", engine=other, num_threads=threads)
    yield from _invariant(spec, engine, threads)


def _invariant(spec: DeterminismSpec, engine: EngineConfig, threads: int) -> Iterator[Variant]:
    """vLLM's batch-invariant mode on a GPU: against the first run, then with other batches against itself."""
    if engine.name != "vllm" or not torch.cuda.is_available() or engine.batch_invariant:
        return
    mode = replace(engine, batch_invariant=True)
    start = Variant(label="batch-invariant", engine=mode, num_threads=threads)
    yield start
    for size in spec.batch_sizes:
        if size != engine.rows:
            label, other = f"batch-invariant, batch of {size}", replace(mode, batch_size=size)
            yield Variant(label=label, engine=other, num_threads=threads, against=start.label)


def _computes_on_cpu(engine: EngineConfig) -> bool:
    return engine.name == "hf" and (engine.device == "cpu" or not torch.cuda.is_available())


def left_out(spec: DeterminismSpec, engine: EngineConfig) -> dict[str, str]:
    """What is not repeated here, by label, and why."""
    reasons = {f"engine={name}": reason for name, reason in spec.left_out.items() if name != engine.name}
    if engine.is_elsewhere:
        reasons |= dict.fromkeys((f"engine={name}" for name in spec.engines), f"engine={engine.name} runs elsewhere")
    if not _computes_on_cpu(engine):
        reasons["other threads"] = "only engine=hf on the CPU computes with threads of torch"
    if not engine.batch_invariant and (engine.name != "vllm" or not torch.cuda.is_available()):
        reasons["batch-invariant"] = "it is a mode of vLLM on a GPU"
    return reasons


def _left_out(label: str, reason: str) -> Repetition:
    return Repetition(label=label, engine="", batch_size=0, num_threads=0, against=None, left_out=reason)


def _answered(work: Work[DeterminismSpec], variant: Variant) -> Answered:
    """The answers and scores of one run, of a stopped audit or by an engine that is opened for it."""
    spec, problems = work.node.spec, load_problems(work.node.spec.problems)
    # With the label: the first run and the same again have equal settings.
    kept = KeptAnswers(work.build.path / ANSWERS, asdict(variant))
    rows = kept.read()
    note = "" if rows is None else " (answered before the audit was stopped)"
    work.console.print(f"{work.node.name}: {variant.label}{note}", style="dim")
    if rows is None:
        rows = _generated(work, variant, problems)
        kept.write(rows)
    with graders_of(work.config.evaluation) as graders:
        by_id = {problem.id: problem for problem in problems}
        scores = scores_of(rows, by_id, spec.problems.paper_rule, spec.grader, graders)
    return Answered(
        texts={(row.problem_id, row.sample): row.completion for row in rows},
        scores={(score.problem_id, score.sample): score.correct for score in scores},
    )


def _generated(work: Work[DeterminismSpec], variant: Variant, problems: list[Problem]) -> list[Completion]:
    spec = work.node.spec
    close_engine()
    torch.set_num_threads(variant.num_threads)
    try:
        engine = engine_for(work.store, work.node.inputs["model"], variant.engine)
        return Evaluator(spec.answers, spec.problems, problems, spec.grader, engine).answers()
    finally:
        close_engine()


def compared(variant: Variant, found: Mapping[str, Answered]) -> Repetition:
    """The row of a run, compared sample by sample with the run that it is held against."""
    new, old = found[variant.label], found[variant.against or variant.label]
    if not new.texts:
        raise ConfigError("no problem was answered; accepted: at least one whose prompt fits the model's context")
    return Repetition(
        label=variant.label,
        engine=variant.engine.numerics,
        batch_size=variant.engine.rows,
        num_threads=variant.num_threads,
        against=variant.against,
        num_answers=len(new.texts),
        num_correct=sum(value is True for value in new.scores.values()),
        num_answers_differ=_differ(new.texts, old.texts),
        num_scores_differ=_differ(_rights(new), _rights(old)),
    )


def _differ(one: Mapping[Sample, Any], other: Mapping[Sample, Any]) -> int:
    return sum(one.get(sample) != other.get(sample) for sample in one.keys() | other.keys())


def _rights(answered: Answered) -> dict[Sample, bool]:
    return {sample: value is True for sample, value in answered.scores.items()}
