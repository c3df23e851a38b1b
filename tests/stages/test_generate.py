from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from micota.config import QuestionsConfig, SamplingConfig, ThinkingConfig
from micota.data.sources import model_folder
from micota.engines.base import Output
from micota.engines.evaluator import completion_of, requests_for
from micota.errors import ConfigError
from micota.graph import CompletionsSpec, Prompt
from micota.records import Question

PROMPTED = CompletionsSpec(
    questions=QuestionsConfig(path="x"),
    prompt=Prompt(template="{problem}?", system=None),
    sampling=SamplingConfig(max_tokens=99),
    thinking=ThinkingConfig(),
    engine="hf",
    dtype="float32",
    extra_body={},
    seed=None,
)


def test_a_model_without_a_chat_template_is_refused_before_the_work() -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder("bundled:teacher"))
    tokenizer.chat_template = None
    engine: Any = SimpleNamespace(tokenizer=tokenizer, context_tokens=1024)
    questions = [Question(id="0", problem="1+2")]
    with pytest.raises(ConfigError, match=r"teacher has no chat template; .* prompt\.generation_as_chat=false"):
        requests_for(PROMPTED, questions, engine)
    requests, _ = requests_for(replace(PROMPTED, prompt=replace(PROMPTED.prompt, as_chat=False)), questions, engine)
    assert len(requests) == 1


THINKER = replace(PROMPTED, thinking=ThinkingConfig(open="<think>", close="</think>"))


def thinker() -> Any:
    """An engine whose template opens the thought, as R1's does."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder("bundled:teacher"))
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = "{{ messages[0].content + '\\n<think>\\n' }}"
    return SimpleNamespace(tokenizer=tokenizer, context_tokens=1024)


def test_a_tag_in_the_prompt_and_the_length_of_the_thought_are_recorded_and_the_text_stays_raw() -> None:
    engine = thinker()
    _, prompts = requests_for(THINKER, [Question(id="0", problem="1+2")], engine)
    text = "1+2=3.\n</think>\n\\boxed{3}"
    output = Output(id=("0", 0), text=text, finish_reason="stop", num_tokens=20, seconds=1.0)
    row = completion_of(output, prompts, THINKER.thinking, engine.tokenizer)
    assert (row.completion, row.prefilled) == (text, "<think>\n")
    thought = engine.tokenizer("1+2=3.\n</think>", add_special_tokens=False)["input_ids"]
    assert row.num_cot_tokens == len(thought)
    cut = completion_of(replace(output, text="1+2=3"), prompts, THINKER.thinking, engine.tokenizer)
    assert cut.num_cot_tokens is None
    _, plain = requests_for(PROMPTED, [Question(id="0", problem="1+2")], engine)
    assert plain["0"].prefilled == "" and completion_of(output, plain, PROMPTED.thinking, None).num_cot_tokens is None


def test_tags_that_would_not_show_in_the_text_are_refused() -> None:
    engine = thinker()
    engine.tokenizer.add_special_tokens({"additional_special_tokens": ["<think>"]})
    with pytest.raises(ConfigError, match="<think> as a special token"):
        requests_for(THINKER, [Question(id="0", problem="1+2")], engine)
