"""Problems put to an engine, and its outputs as completions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from micota.config import ThinkingConfig
from micota.data.prompts import prefilled, prompt_hash, prompt_text, split
from micota.engines.base import Engine, Output, Request
from micota.errors import ConfigError
from micota.graph import CompletionsSpec
from micota.records import Completion, Question
from micota.seeding import seed_of


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A prompt as it is sent: its hash, its length, and the part of the answer that stands in it."""

    hash: str
    num_tokens: int
    prefilled: str


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
