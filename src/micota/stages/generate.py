"""Problems and a model -> raw completions -> the training data of an arm."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from micota.answers.grading import cheap_verdict, prediction
from micota.artifacts import ArtifactError, JsonlAppender, read_jsonl, write_jsonl, write_text
from micota.config import Config, ConfigError, EvaluationConfig, QuestionsConfig, SelectConfig
from micota.console import progress_bar
from micota.datacard import CARD, CARD_PAGE, card, markdown
from micota.decontamination import find_matches, reasons
from micota.engines.base import Engine, Output, Request
from micota.filters import Filters, best
from micota.graph import CompletionsSpec, DataSpec, questions
from micota.prompts import messages, prompt_hash, prompt_text
from micota.records import COMPLETIONS, DATA, Completion, Example, Problem, Question, Verdict
from micota.sources import load_problems, load_questions
from micota.stages.grading import graders_of, submission
from micota.stages.inputs import engine_for, input_path, seed_of
from micota.stages.make import Work

CONTAMINATION = "contamination.jsonl"
logger = logging.getLogger(__name__)


def generate(work: Work) -> None:
    """Answer every problem; completions are appended as they finish, and a restart answers only what is missing."""
    spec: CompletionsSpec = work.node.spec
    problems = load_questions(spec.questions)
    path = work.build.path / COMPLETIONS
    appender = JsonlAppender(path)
    done = {(row.problem_id, row.sample): row for row in read_jsonl(path, Completion)}
    engine = engine_for(work.store, work.node.inputs["model"], work.config.engine)
    requests, hashes = requests_for(spec, problems, engine)
    work.build.counts |= {"requested": len(problems) * spec.sampling.num_samples, "resumed": len(done)}
    work.build.counts["prompt_too_long"] = len(problems) * spec.sampling.num_samples - len(requests)
    requests = [replace(request, done=request.id in done) for request in requests]
    tokens = sum(row.num_tokens for row in done.values())
    tally = Tally(golds_of(work.config, spec.questions))
    for row in done.values():
        tally.add(row)
    began, tokens_before = time.perf_counter(), tokens
    with progress_bar(work.console) as bar:
        task = bar.add_task(work.node.name, total=len(requests), completed=len(done), note="")
        for output in engine.generate(requests, spec.sampling):
            row = completion_of(output, hashes)
            appender.append([row])
            done[output.id] = row
            tokens += output.num_tokens
            tally.add(row)
            speed = (tokens - tokens_before) / (time.perf_counter() - began)
            bar.update(task, advance=1, note=f"{tokens / len(done):.0f} tokens each, {speed:.0f} tokens/s{tally}")
    appender.close()
    _check_complete(requests, done, path)
    work.build.counts |= Counter(f"finish_{row.finish_reason}" for row in done.values())
    work.build.metrics["num_tokens"] = tokens / max(1, len(done))
    if tokens > tokens_before:
        work.build.metrics["tokens_per_s"] = (tokens - tokens_before) / (time.perf_counter() - began)
    logger.info("%s: %d completions, %.1f tokens each", work.node.name, len(done), tokens / max(1, len(done)))


class Tally:
    """How many answers are right so far, as far as the cheap rules tell; for people who watch."""

    def __init__(self, golds: dict[str, Problem]) -> None:
        self.golds = golds
        self.num_right = self.num_judged = 0

    def add(self, row: Completion) -> None:
        if row.problem_id not in self.golds:
            return
        verdict = cheap_verdict(self.golds[row.problem_id], prediction(submission(row, self.golds)))
        if verdict is not None:
            self.num_judged += 1
            self.num_right += verdict.correct is True

    def __str__(self) -> str:
        return f", {self.num_right / self.num_judged:.0%} right" if self.num_judged else ""


def golds_of(config: Config, asked: QuestionsConfig) -> dict[str, Problem]:
    """The problems behind questions, with their golds, by id: those of the config's source that asks the same."""
    sources = [config.problems, *config.bench.values()]
    found = next((source for source in sources if questions(source) == asked), None)
    return {problem.id: problem for problem in load_problems(found)} if found else {}


def requests_for(
    spec: CompletionsSpec, problems: list[Question], engine: Engine
) -> tuple[list[Request], dict[str, tuple[str, int]]]:
    """Requests that fit the context, and of every prompt its hash and number of tokens."""
    if spec.prompt.as_chat and not engine.tokenizer.chat_template:
        raise ConfigError(
            f"the tokenizer of {engine.tokenizer.name_or_path} has no chat template; use a model that has one, or send "
            "it the bare text when data are generated: prompt.generation_as_chat=false"
        )
    requests = []
    hashes = {}
    for problem in problems:
        text = prompt_text(engine.tokenizer, problem.problem, spec.prompt)
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
