"""Problems and a model -> raw completions -> the training data of an arm."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

from micota.artifacts import ArtifactError, JsonlAppender, read_jsonl, write_jsonl
from micota.config import ConfigError, SelectConfig
from micota.console import progress_bar
from micota.engines.base import Engine, Output, Request
from micota.filters import reason_to_drop
from micota.graph import CompletionsSpec, DataSpec
from micota.prompts import messages, prompt_hash, render
from micota.records import Completion, Example, Problem
from micota.sources import load_problems
from micota.stages.inputs import engine_for, input_path, seed_of
from micota.stages.make import Work

COMPLETIONS = "completions.jsonl"
DATA = "data.jsonl"
logger = logging.getLogger(__name__)


def generate(work: Work) -> None:
    """Answer every problem; completions are appended as they finish, and a restart answers only what is missing."""
    spec: CompletionsSpec = work.node.spec
    problems = load_problems(spec.problems)
    path = work.build.path / COMPLETIONS
    appender = JsonlAppender(path)
    done = {(row.problem_id, row.sample): row for row in read_jsonl(path, Completion)}
    engine = engine_for(work.store, work.node.inputs["model"], work.config.engine)
    requests, hashes = requests_for(spec, problems, engine)
    work.build.counts |= {"requested": len(problems) * spec.sampling.num_samples, "resumed": len(done)}
    work.build.counts["prompt_too_long"] = len(problems) * spec.sampling.num_samples - len(requests)
    requests = [replace(request, done=request.id in done) for request in requests]
    tokens = sum(row.num_tokens for row in done.values())
    with progress_bar(work.console) as bar:
        task = bar.add_task(work.node.name, total=len(requests), completed=len(done), note="")
        for output in engine.generate(requests, spec.sampling):
            row = completion_of(output, hashes)
            appender.append([row])
            done[output.id] = row
            tokens += output.num_tokens
            bar.update(task, advance=1, note=f"{tokens / len(done):.0f} tokens each")
    appender.close()
    _check_complete(requests, done, path)
    work.build.counts |= Counter(f"finish_{row.finish_reason}" for row in done.values())
    work.build.metrics["num_tokens"] = tokens / max(1, len(done))
    logger.info("%s: %d completions, %.1f tokens each", work.node.name, len(done), tokens / max(1, len(done)))


def requests_for(
    spec: CompletionsSpec, problems: list[Problem], engine: Engine
) -> tuple[list[Request], dict[str, tuple[str, int]]]:
    """Requests that fit the context, and of every prompt its hash and number of tokens."""
    requests = []
    hashes = {}
    for problem in problems:
        text = render(engine.tokenizer, messages(problem.problem, spec.prompt))
        ids = engine.tokenizer(text, add_special_tokens=False)["input_ids"]
        hashes[problem.id] = (prompt_hash(text), len(ids))
        if len(ids) + spec.sampling.max_tokens > engine.context_tokens:
            continue
        for sample in range(spec.sampling.num_samples):
            seed = seed_of("sample", spec.seed, problem.id, sample)
            requests.append(Request(id=(problem.id, sample), prompt_ids=ids, seed=seed))
    if not requests:
        raise ConfigError(
            f"no prompt leaves room for max_tokens={spec.sampling.max_tokens} in the model's context of "
            f"{engine.context_tokens} tokens; lower it"
        )
    return requests, hashes


def completion_of(output: Output, hashes: dict[str, tuple[str, int]]) -> Completion:
    """The row of a finished sample; ``hashes`` as from ``requests_for``."""
    problem_id, sample = output.id
    return Completion(
        problem_id=problem_id,
        sample=sample,
        prompt_hash=hashes[problem_id][0],
        completion=output.text,
        finish_reason=output.finish_reason,
        num_prompt_tokens=hashes[problem_id][1],
        num_tokens=output.num_tokens,
        seconds=output.seconds,
    )


def _check_complete(requests: list[Request], done: dict[tuple[str, int], Completion], path: Path) -> None:
    gaps = {request.id for request in requests} ^ done.keys()
    assert not gaps, f"{path}: ids asked for and ids answered differ: {sorted(gaps)[:3]}"


def select(work: Work) -> None:
    """Build the data of an arm: filter one author's completions, or mix parts, or take the user's own rows."""
    spec: DataSpec = work.node.spec
    problems = {problem.id: problem for problem in load_problems(spec.problems)}
    if spec.weights:
        parts = {
            label: read_jsonl(input_path(work.store, node) / DATA, Example) for label, node in work.node.inputs.items()
        }
        examples = mixture(parts, spec.weights, spec.select.num_examples, spec.seed)
        work.build.counts |= {
            f"from_{label}": sum(e.source == rows[0].source for e in examples) for label, rows in parts.items()
        }
    elif spec.path is not None:
        examples = choose(read_jsonl(Path(spec.path), Example), spec.select, spec.seed)
    else:
        rows = read_jsonl(input_path(work.store, work.node.inputs["completions"]) / COMPLETIONS, Completion)
        kept, reasons = keep(rows, problems, spec)
        work.build.counts |= {"completions": len(rows), "kept": len(kept)} | reasons
        examples = choose(kept, spec.select, spec.seed)
    order = {identity: index for index, identity in enumerate(problems)}
    examples.sort(key=lambda example: order.get(example.problem_id, len(order)))
    work.build.counts["examples"] = write_jsonl(work.build.path / DATA, examples)
    work.build.metrics["num_tokens"] = sum(example.num_tokens for example in examples) / len(examples)


def keep(rows: list[Completion], problems: dict[str, Problem], spec: DataSpec) -> tuple[list[Example], dict[str, int]]:
    """Examples from the completions that pass every filter, and how many were dropped for which reason."""
    kept = []
    reasons: Counter[str] = Counter()
    for row in sorted(rows, key=lambda row: row.sample):
        problem = problems[row.problem_id]
        reason = reason_to_drop(row, problem.answer, spec.select)
        if reason is not None:
            reasons[f"dropped_{reason}"] += 1
            continue
        kept.append(
            Example(
                problem_id=row.problem_id,
                messages=messages(problem.problem, spec.prompt),
                completion=row.completion,
                num_tokens=row.num_tokens,
                source=spec.arm,
            )
        )
    return kept, dict(reasons)


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
