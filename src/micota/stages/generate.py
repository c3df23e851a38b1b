"""Problems and a model -> raw completions."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from micota.answers.grading import cheap_verdict, prediction
from micota.artifacts import JsonlAppender, read_jsonl
from micota.config import Config, ConfigError, QuestionsConfig
from micota.console import progress_bar
from micota.engines.base import Engine, Output, Request
from micota.graph import CompletionsSpec, questions
from micota.prompts import prompt_hash, prompt_text
from micota.records import COMPLETIONS, Completion, Problem, Question
from micota.sources import load_problems, load_questions
from micota.stages.grading import submission
from micota.stages.inputs import engine_for, seed_of
from micota.stages.make import Work

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
