"""Problems and a model -> raw completions."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from micota.artifacts import JsonlAppender, read_jsonl
from micota.config import ConfigError, ThinkingConfig
from micota.engines.base import Engine, Output, Request
from micota.graph import CompletionsSpec
from micota.prompts import prefilled, prompt_hash, prompt_text, split
from micota.records import COMPLETIONS, Completion, Question
from micota.sources import load_questions
from micota.stages.inputs import engine_for, seed_of
from micota.stages.make import Work
from micota.stages.watching import watch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A prompt as it is sent: its hash, its length, and the part of the answer that stands in it."""

    hash: str
    num_tokens: int
    prefilled: str


def generate(work: Work) -> None:
    """Answer every problem; completions are appended as they finish, and a restart answers only what is missing.

    Raises:
        ArtifactError: the disk is full; what was finished before is kept.
    """
    spec: CompletionsSpec = work.node.spec
    problems = load_questions(spec.questions)
    path = work.build.path / COMPLETIONS
    appender = JsonlAppender(path)
    done = {(row.problem_id, row.sample): row for row in read_jsonl(path, Completion)}
    engine = engine_for(work.store, work.node.inputs["model"], work.config.engine)
    requests, prompts = requests_for(spec, problems, engine)
    asked = len(problems) * spec.sampling.num_samples
    work.build.counts |= {"requested": asked, "resumed": len(done), "prompt_too_long": asked - len(requests)}
    requests = [replace(request, done=request.id in done) for request in requests]
    with watch(work, len(requests), list(done.values())) as watcher:
        for output in engine.generate(requests, spec.sampling):
            row = completion_of(output, prompts, spec.thinking, engine.tokenizer)
            appender.append([row])
            done[output.id] = row
            watcher.add(row)
    appender.close()
    _check_complete(requests, done, path)
    work.build.counts |= Counter(f"finish_{row.finish_reason}" for row in done.values())
    work.build.metrics |= watcher.metrics()
    logger.info("%s: %d completions, %s", work.node.name, len(done), work.build.metrics)


def requests_for(
    spec: CompletionsSpec, problems: list[Question], engine: Engine
) -> tuple[list[Request], dict[str, Rendered]]:
    """Requests that fit the context, and the prompt of every problem. The engine's model need not be loaded for this.

    Raises:
        ConfigError: the tokenizer has no chat template, or hides the tags of a thought, or no prompt fits.
    """
    _check_tokenizer(engine.tokenizer, spec)
    requests = []
    prompts = {}
    for problem in problems:
        text = prompt_text(engine.tokenizer, problem.problem, spec.prompt)
        ids = engine.tokenizer(text, add_special_tokens=False)["input_ids"]
        opened = prefilled(text, spec.thinking.open) if spec.thinking.open else ""
        prompts[problem.id] = Rendered(hash=prompt_hash(text), num_tokens=len(ids), prefilled=opened)
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
    return requests, prompts


def _check_tokenizer(tokenizer: Any, spec: CompletionsSpec) -> None:
    if spec.prompt.as_chat and not tokenizer.chat_template:
        raise ConfigError(
            f"the tokenizer of {tokenizer.name_or_path} has no chat template; use a model that has one, or send "
            "it the bare text when data are generated: prompt.generation_as_chat=false"
        )
    hidden = {spec.thinking.open, spec.thinking.close} & set(tokenizer.all_special_tokens)
    if hidden:
        raise ConfigError(
            f"the tokenizer of {tokenizer.name_or_path} has {', '.join(sorted(map(str, hidden)))} as a special token, "
            "which is left out of the text of a completion; accepted for the tags of thinking: tokens that are text"
        )


def completion_of(output: Output, prompts: dict[str, Rendered], thinking: ThinkingConfig, tokenizer: Any) -> Completion:
    """The row of a finished sample; ``prompts`` as from ``requests_for``."""
    problem_id, sample = output.id
    prompt = prompts[problem_id]
    row = Completion(
        problem_id=problem_id,
        sample=sample,
        prompt_hash=prompt.hash,
        completion=output.text,
        finish_reason=output.finish_reason,
        num_prompt_tokens=prompt.num_tokens,
        num_tokens=output.num_tokens,
        seconds=output.seconds,
        prefilled=prompt.prefilled,
    )
    parts = split(row.completion, thinking, row.prefilled)
    if parts.cot is None or parts.answer is None:
        return row
    thought = row.completion.partition(str(thinking.close))[0] + str(thinking.close)
    return replace(row, num_cot_tokens=len(tokenizer(thought, add_special_tokens=False)["input_ids"]))


def _check_complete(requests: list[Request], done: dict[tuple[str, int], Completion], path: Path) -> None:
    gaps = {request.id for request in requests} ^ done.keys()
    assert not gaps, f"{path}: ids asked for and ids answered differ: {sorted(gaps)[:3]}"
