"""Thoughts that are ended after a number of tokens (budget forcing)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import micota
from micota.config import EngineConfig, QuestionsConfig, SamplingConfig, SourceConfig, ThinkingConfig
from micota.data.sources import load_problems, model_folder
from micota.engines import open_engine
from micota.engines.evaluator import answers, requests_for
from micota.errors import ConfigError
from micota.graph import CompletionsSpec, Prompt
from micota.records import Completion

# Words of the toy models stand for tags: the toy teacher thinks from the start, as after a tag in the prompt.
TAGS = ThinkingConfig(open="<think>", close="Check")
LIMIT = 8
SPEC = CompletionsSpec(
    questions=QuestionsConfig(path="x"),
    prompt=Prompt(template="{problem}", system=None, as_chat=False),
    sampling=SamplingConfig(temperature=0.0, max_tokens=60, max_thought_tokens=LIMIT),
    thinking=TAGS,
    engine="hf",
    dtype="float32",
    extra_body={},
    seed=None,
)


@pytest.fixture(scope="module")
def engine() -> Any:
    torch.set_num_threads(1)
    config = EngineConfig(name="hf", dtype="float32", device="cpu", batch_size=4)
    return open_engine(config, model_folder("bundled:teacher"), None)


def rows_of(
    engine: Any, spec: CompletionsSpec, done: Callable[[int], bool] = lambda index: False
) -> dict[str, Completion]:
    problems = load_problems(SourceConfig(path="bundled:dev_medium.jsonl", id_column="id", limit=12))
    requests, prompts = requests_for(spec, list(problems), engine)
    prompts = {name: replace(prompt, prefilled="<think>") for name, prompt in prompts.items()}
    requests = [replace(request, done=done(index)) for index, request in enumerate(requests)]
    return {row.problem_id: replace(row, seconds=0.0) for row in answers(spec, requests, prompts, engine)}


def test_a_thought_is_ended_and_the_model_goes_on(engine: Any) -> None:
    """As ``generate`` of transformers goes on from the same tokens."""
    free = rows_of(engine, replace(SPEC, sampling=replace(SPEC.sampling, max_thought_tokens=None)))
    rows = rows_of(engine, SPEC)
    problems = load_problems(SourceConfig(path="bundled:dev_medium.jsonl", id_column="id", limit=12))
    encode = lambda text: engine.tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    closing, ended = encode("\nCheck\n\n"), 0
    for problem in problems:
        prompt, row = encode(problem.problem), rows[problem.id]

        def greedy(ids: list[int], count: int) -> list[int]:
            whole = engine.model.generate(torch.tensor([ids]), max_new_tokens=count, do_sample=False)
            return list(whole[0, len(ids) :].tolist())

        begun = greedy(prompt, LIMIT)
        if len(begun) < LIMIT or begun[-1] in engine.eos_ids:
            assert row == free[problem.id], "it ended before the limit"
            continue
        cut = engine.tokenizer.decode(begun, skip_special_tokens=True)
        middle = [] if "Check" in cut else closing
        rest = greedy(prompt + begun + middle, 60 - LIMIT - len(closing))
        assert row.completion == engine.tokenizer.decode(begun + middle + rest, skip_special_tokens=True)
        assert row.num_tokens == LIMIT + len(middle) + len(rest) <= 60
        assert row.finish_reason == ("stop" if rest[-1] in engine.eos_ids else "length")
        if middle:
            ended += 1
            assert row.num_cot_tokens is not None and row.num_cot_tokens <= LIMIT + 2
    assert ended >= 4, "thoughts should be longer than the limit"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_resumed_run_gives_the_same_rows(engine: Any, monkeypatch: pytest.MonkeyPatch, temperature: float) -> None:
    monkeypatch.setattr("micota.engines.evaluator.CHUNK", 5)
    spec = replace(SPEC, sampling=replace(SPEC.sampling, temperature=temperature), seed=0)
    whole = rows_of(engine, spec)
    rest = rows_of(engine, spec, done=lambda index: index % 2 == 0 or index < 5)
    assert len(whole) == 12 and rest == {name: whole[name] for name in rest} and len(rest) == 4


def test_an_engine_of_texts_goes_on_from_the_text(engine: Any) -> None:
    class Texts:
        """As a server, which returns no tokens."""

        tokenizer, context_tokens = engine.tokenizer, engine.context_tokens

        def generate(self, requests: Any, sampling: SamplingConfig) -> Any:
            for output in engine.generate(requests, sampling):
                yield replace(output, token_ids=None)

    rows, expected = rows_of(Texts(), SPEC), rows_of(engine, SPEC)
    assert {name: row.finish_reason for name, row in rows.items()} == {
        name: row.finish_reason for name, row in expected.items()
    }
    plain = lambda row: "".join(row.completion.split())  # noqa: E731
    assert [plain(row) for row in rows.values()] == [plain(row) for row in expected.values()]


def test_settings_that_cannot_be_are_refused(composed: Callable[..., Any]) -> None:
    settings = ["experiment=tiny", "data=strong"]
    with pytest.raises(ConfigError, match=r"max_thought_tokens=99999 with max_tokens=\d+, which leaves no answer"):
        composed("generate", *settings, "evaluation.sampling.max_thought_tokens=99999")


def test_what_cannot_be_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    settings = ["experiment=tiny", "data=strong", f"artifacts={tmp_path}", "tracker=none"]
    with pytest.raises(ConfigError, match=r"sampling\.max_thought_tokens=8 of a model without tags"):
        micota.evaluate([*settings, "data=instruct", "evaluation.sampling.max_thought_tokens=8"])
    with pytest.raises(ConfigError, match=r"sampling\.max_thought_tokens=8 of a model without tags"):
        micota.generate([*settings, "teacher.sampling.max_thought_tokens=8"])
    chat = ["engine=chat", "engine.chat.url=http://localhost:1/v1", "teacher.thinking={open: a, close: b}"]
    with pytest.raises(ConfigError, match=r"with engine=chat, whose API continues no text"):
        micota.generate([*settings, *chat, "teacher.sampling.max_thought_tokens=8"])
    assert not list(tmp_path.iterdir())


def test_the_limit_enters_keys(composed: Callable[..., Any]) -> None:
    from micota import graph

    tags = "teacher.thinking={open: a, close: b}"
    keys = [
        graph.data(config, config.data).key
        for extra in ([], ["teacher.sampling.max_thought_tokens=null"], ["teacher.sampling.max_thought_tokens=9"])
        for config in [composed("generate", "data=strong", tags, *extra)]
    ]
    assert keys[0] == keys[1] != keys[2]
