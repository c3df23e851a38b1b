"""Problems -> requests to an engine -> completions -> scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from micota.config import SourceConfig, ThinkingConfig
from micota.data.prompts import check_thought_limit, messages, prefilled, prompt_hash, prompt_text, split, token_ids
from micota.engines.base import Engine, Output, Request
from micota.errors import ConfigError
from micota.grading.graders import Graders, submission
from micota.grading.scores import scored
from micota.graph import CompletionsSpec
from micota.records import Completion, Problem, Question, Score
from micota.seeding import seed_of

CHUNK = 512  # requests whose thoughts are ended together; a killed run repeats at most one chunk


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A rendered prompt: its hash, its length in tokens, and the start of the answer that it contains."""

    hash: str
    num_tokens: int
    prefilled: str


def requests_for(
    spec: CompletionsSpec, problems: list[Question], engine: Engine, *, for_training: bool = False
) -> tuple[list[Request], dict[str, Rendered]]:
    """Requests that fit the context, and the prompt of every problem. The engine's model need not be loaded.

    Raises:
        ConfigError: the tokenizer has no chat template, or hides the tags of a thought, or no prompt fits; or
            completions ``for_training`` would hold a thought whose tags the config lacks.
        SourceError: the tokenizer does not know a word of a problem.
    """
    check_thought_limit(spec.sampling.max_thought_tokens, spec.thinking, spec.engine)
    if engine.tokenizer is None:
        return _chat_requests(spec, problems)
    _check_tokenizer(engine.tokenizer, spec)
    requests = []
    prompts = {}
    for problem in problems:
        text = prompt_text(engine.tokenizer, problem.problem, spec.prompt)
        opened = prefilled(text, spec.thinking.open)
        if opened and not spec.thinking.open:
            opened = _without_tags(engine.tokenizer, opened, for_training)
        ids = token_ids(engine.tokenizer, text)
        prompts[problem.id] = Rendered(hash=prompt_hash(text), num_tokens=len(ids), prefilled=opened)
        if len(ids) + spec.sampling.max_tokens > engine.context_tokens:
            continue
        for sample in range(spec.sampling.num_samples):
            seed = seed_of("sample", spec.seed, problem.id, sample)
            requests.append(Request(id=(problem.id, sample), prompt_ids=ids, seed=seed))
    if not requests:
        shortest = min((prompt.num_tokens for prompt in prompts.values()), default=0)
        raise ConfigError(
            f"no prompt leaves space for max_tokens={spec.sampling.max_tokens} in the model's context of "
            f"{engine.context_tokens} tokens; accepted: at most {max(engine.context_tokens - shortest, 0)}, as "
            "evaluation.sampling.max_tokens, or as sampling.max_tokens of its role for training data"
        )
    return requests, prompts


def _chat_requests(spec: CompletionsSpec, problems: list[Question]) -> tuple[list[Request], dict[str, Rendered]]:
    """Requests of messages, for an endpoint that renders them. Their length is known with the reply."""
    if not spec.prompt.as_chat:
        raise ConfigError(
            "prompt.generation_as_chat=false sends bare text, and engine=chat takes chat messages alone; accepted: "
            "engine=server, or prompt.generation_as_chat=true"
        )
    requests, prompts = [], {}
    for problem in problems:
        turns = messages(problem.problem, spec.prompt)
        text = json.dumps(turns, ensure_ascii=False)
        prompts[problem.id] = Rendered(hash=prompt_hash(text), num_tokens=0, prefilled="")
        for sample in range(spec.sampling.num_samples):
            seed = seed_of("sample", spec.seed, problem.id, sample)
            requests.append(Request(id=(problem.id, sample), prompt_ids=[], seed=seed, messages=turns))
    return requests, prompts


def _without_tags(tokenizer: Any, opened: str, for_training: bool) -> str:
    """The start of the answer in the prompt of a model that has no thinking tags in its config: it does not count,
    but a completion to train on would end a thought that it does not begin.

    Raises:
        ConfigError: the completions are to train on.
    """
    if for_training:
        tag = opened.strip()
        tags = f"{{open:'{tag}',close:'{tag.replace('<', '</')}'}}"
        raise ConfigError(
            f"the chat template of {tokenizer.name_or_path} opens a thought ({tag}), and the model has no tags of it "
            f'in its config; accepted: tags of its role or recipe, as "teacher.thinking={tags}"'
        )
    return ""


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
            "which the text of a completion omits; accepted for the tags of thinking: tokens that are text"
        )


def answers(
    spec: CompletionsSpec, requests: Sequence[Request], prompts: dict[str, Rendered], engine: Engine
) -> Iterator[Completion]:
    """The completions of all requests that are not done, each as soon as it is finished. ``requests`` and ``prompts``
    come from ``requests_for``."""
    if spec.sampling.max_thought_tokens is None:
        outputs = engine.generate(requests, spec.sampling)
    else:
        outputs = _with_ended_thoughts(spec, requests, prompts, engine)
    for output in outputs:
        yield completion_of(output, prompts, spec.thinking, engine.tokenizer)


def _with_ended_thoughts(
    spec: CompletionsSpec, requests: Sequence[Request], prompts: dict[str, Rendered], engine: Engine
) -> Iterator[Output]:
    """The outputs of requests whose thoughts are ended after ``max_thought_tokens`` by the closing tag: budget forcing
    (s1, arXiv 2501.19393). A chunk with requests that are not done is generated as a whole, since the numbers of a row
    can depend on the others of its batch."""
    limit, tokenizer = spec.sampling.max_thought_tokens, engine.tokenizer
    assert limit is not None
    closing = token_ids(tokenizer, f"\n{spec.thinking.close}\n\n")
    first = replace(spec.sampling, max_tokens=limit, max_thought_tokens=None)
    second = replace(first, max_tokens=spec.sampling.max_tokens - limit - len(closing))
    if second.max_tokens < 1:
        raise ConfigError(
            f"sampling.max_thought_tokens={limit} and the closing tag of {len(closing)} tokens leave no answer within "
            f"max_tokens={spec.sampling.max_tokens}; accepted: fewer"
        )
    for start in range(0, len(requests), CHUNK):
        chunk = {request.id: request for request in requests[start : start + CHUNK]}
        if all(request.done for request in chunk.values()):
            continue
        begun: dict[tuple[str, int], tuple[Output, list[int]]] = {}
        for output in engine.generate([replace(request, done=False) for request in chunk.values()], first):
            if output.finish_reason == "length":
                begun[output.id] = output, _continued(output, prompts[output.id[0]], spec.thinking, tokenizer, closing)
            elif not chunk[output.id].done:
                yield output
        # In the order of the requests, and not of the answers, so that a resumed run forms the same batches.
        rest = [
            replace(
                request,
                prompt_ids=request.prompt_ids + begun[request.id][1],
                seed=seed_of("after the thought", request.seed),
                done=False,
            )
            for request in chunk.values()
            if request.id in begun
        ]
        for output in engine.generate(rest, second) if rest else ():
            if not chunk[output.id].done:
                yield _joined(*begun[output.id], output, tokenizer)


def _continued(
    output: Output, prompt: Rendered, thinking: ThinkingConfig, tokenizer: Any, closing: list[int]
) -> list[int]:
    """The tokens of a text that was cut, with the tag that ends its thought where it has not ended."""
    if output.thought is not None:
        raise ConfigError(
            "sampling.max_thought_tokens with a server that gives thoughts apart from texts, which it cannot continue; "
            "accepted: a server without a parser of reasoning"
        )
    ids = token_ids(tokenizer, output.text) if output.token_ids is None else output.token_ids
    return ids + closing if split(output.text, thinking, prompt.prefilled).answer is None else ids


def _joined(begun: Output, ids: list[int], rest: Output, tokenizer: Any) -> Output:
    """One output of a text up to the limit of its thought, continued by ``ids``, and of the rest."""
    known = begun.token_ids is not None and rest.token_ids is not None
    added = len(ids) - len(begun.token_ids or token_ids(tokenizer, begun.text))

    def decoded(tokens: list[int]) -> str:
        text: str = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    whole = ids + (rest.token_ids or [])
    text = decoded(whole) if known else begun.text + decoded(ids[len(ids) - added :]) + rest.text
    return replace(
        rest,
        text=text,
        num_tokens=begun.num_tokens + added + rest.num_tokens,
        seconds=begun.seconds + rest.seconds,
        token_ids=whole if known else None,
    )


class Evaluator:
    """Evaluates an engine on one problem set, once or after each change of its weights; prompts are rendered once.

    Args:
        spec: the prompt and the sampling.
        source: the source of the problems, with the rule of their benchmark.
        grader: the grader whose verdicts are scored.

    Raises:
        ConfigError: as of ``requests_for``.
    """

    def __init__(
        self, spec: CompletionsSpec, source: SourceConfig, problems: Sequence[Problem], grader: str, engine: Engine
    ) -> None:
        self._spec, self._rule, self._grader, self._engine = spec, source.paper_rule, grader, engine
        self.problems = {problem.id: problem for problem in problems}
        self._requests, self._prompts = requests_for(spec, list(problems), engine)

    @property
    def num_wanted(self) -> int:
        """The number of samples of all problems, including those whose prompt does not fit the context."""
        return len(self.problems) * self._spec.sampling.num_samples

    def answers(self) -> list[Completion]:
        """The completions of the engine with its current weights."""
        return list(answers(self._spec, self._requests, self._prompts, self._engine))

    def scores(self, rows: Sequence[Completion], graders: Graders) -> list[Score]:
        """The scores of completions, graded by every rule."""
        return scores_of(rows, self.problems, self._rule, self._grader, graders)


def scores_of(
    rows: Sequence[Completion], problems: dict[str, Problem], rule: str, grader: str, graders: Graders
) -> list[Score]:
    """The scores of completions of ``problems`` (by id), graded by every rule; ``rule`` is that of the benchmark."""
    verdicts = graders.grade([submission(row, problems) for row in rows], rule)
    return scored(rows, problems, verdicts, grader)


def completion_of(output: Output, prompts: dict[str, Rendered], thinking: ThinkingConfig, tokenizer: Any) -> Completion:
    """The row of a finished sample; ``prompts`` comes from ``requests_for``."""
    problem_id, sample = output.id
    prompt = prompts[problem_id]
    row = Completion(
        problem_id=problem_id,
        sample=sample,
        prompt_hash=prompt.hash,
        completion=_with_thought(output, thinking),
        finish_reason=output.finish_reason,
        num_prompt_tokens=prompt.num_tokens if output.num_prompt_tokens is None else output.num_prompt_tokens,
        num_tokens=output.num_tokens,
        seconds=output.seconds,
        prefilled=prompt.prefilled,
        num_cot_tokens=output.num_cot_tokens,
        error=output.error,
    )
    if tokenizer is None:
        return row
    parts = split(row.completion, thinking, row.prefilled)
    if parts.cot is None or parts.answer is None:
        return row
    thought = row.completion.rpartition(str(thinking.close))[0] + str(thinking.close)
    return replace(row, num_cot_tokens=len(tokenizer(thought, add_special_tokens=False)["input_ids"]))


def _with_thought(output: Output, thinking: ThinkingConfig) -> str:
    """The text of a completion, with the thought that the endpoint gave apart from it between the model's tags.

    Raises:
        ConfigError: the model has no tags in the config, so that thought and answer would run together.
    """
    if output.thought is None:
        return output.text
    if not thinking.open:
        raise ConfigError(
            "the endpoint gives a thought apart from the answer, and the model has no thinking tags; accepted: tags of "
            "its role, as \"teacher.thinking={open:'<think>',close:'</think>'}\""
        )
    return f"{thinking.open}\n{output.thought.strip()}\n{thinking.close}\n\n{output.text.lstrip()}"
