from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from micota.config import ConfigError, QuestionsConfig, SamplingConfig
from micota.graph import CompletionsSpec, Prompt
from micota.records import Question
from micota.sources import model_folder
from micota.stages.generate import requests_for

ASKED = CompletionsSpec(
    questions=QuestionsConfig(path="x"),
    prompt=Prompt(template="{problem}?", system=None),
    sampling=SamplingConfig(max_tokens=99),
    engine="hf",
    dtype="float32",
    seed=None,
)


def test_a_model_without_a_chat_template_is_refused_before_the_work() -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder("bundled:teacher"))
    tokenizer.chat_template = None
    engine: Any = SimpleNamespace(tokenizer=tokenizer, context_tokens=1024)
    questions = [Question(id="0", problem="1+2")]
    with pytest.raises(ConfigError, match=r"teacher has no chat template; .* prompt\.generation_as_chat=false"):
        requests_for(ASKED, questions, engine)
    requests, _ = requests_for(replace(ASKED, prompt=replace(ASKED.prompt, as_chat=False)), questions, engine)
    assert len(requests) == 1
