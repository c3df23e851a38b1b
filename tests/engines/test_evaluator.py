from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from micota import graph
from micota.data.sources import model_folder
from micota.engines.evaluator import requests_for
from micota.errors import ConfigError
from micota.pretrained import load_tokenizer
from micota.records import Question


def test_a_context_that_is_too_small_says_how_much_fits(composed: Callable[..., Any]) -> None:
    config = composed("generate", "experiment=tiny", "data=strong", "teacher.sampling.max_tokens=500")
    spec = graph.data(config, config.data).inputs["completions"].spec
    engine: Any = SimpleNamespace(tokenizer=load_tokenizer(model_folder("bundled:teacher")), context_tokens=900)
    question = Question(id="0", problem="Ana has 9 pens:+3 mod 10?")
    requests, prompts = requests_for(spec, [question], engine)
    assert len(requests) == config.teacher.sampling.num_samples
    engine.context_tokens = prompts["0"].num_tokens + 499
    with pytest.raises(ConfigError, match=r"no prompt leaves space for max_tokens=500 .*; accepted: at most 499, as"):
        requests_for(spec, [question], engine)
