"""Engines and trainers of single roles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from micota import graph
from micota.config.roles import as_typed, for_hydra
from micota.errors import ConfigError
from micota.graph.models import generator_config

Composed = Callable[..., Any]


def test_a_role_has_an_option_or_keys_of_its_own_and_else_what_is_global(composed: Composed) -> None:
    config = composed(
        "pipeline", "trainer.pack_length=8192", "engine=vllm", "ta.trainer=fsdp", "student.trainer.devices=2",
        "teacher.engine=server", "teacher.engine.server.url=http://teacher/v1", "large.engine.tensor_parallel=4",
    )  # fmt: skip
    assert (config.ta.trainer.name, config.ta.trainer.devices) == ("fsdp", 8)
    assert config.ta.trainer.pack_length == 16384, "an option is whole: it takes nothing of the global one"
    assert (config.student.trainer.name, config.student.trainer.devices) == ("gpu", 2)
    assert config.student.trainer.pack_length == 8192, "keys alone change the global one"
    assert config.teacher.engine.server.url == "http://teacher/v1"
    assert (config.large.engine.name, config.large.engine.tensor_parallel) == ("vllm", 4)
    assert config.small.engine is None and config.engine_of(config.small) == config.engine
    assert config.placed(config.ta).trainer == config.ta.trainer and config.placed(None) == config


def test_what_a_role_computes_with_enters_the_keys_of_what_it_makes(composed: Composed) -> None:
    def keys(*overrides: str) -> dict[str, str]:
        config = composed("evaluate", "bench=[gsm8k]", "data=micota", "engine=vllm", *overrides)
        made = [*graph.evaluation(config), *graph.scores(config, "teacher").values()]
        return {node.folder.rpartition("-")[0]: node.key for target in made for node in target.walk()}

    plain = keys()
    assert keys("teacher.engine=vllm", "ta.trainer=fsdp", "student.engine.memory_fraction=0.5") == plain
    teacher = keys("teacher.engine.dtype=float32")
    student = keys("student.engine=hf", "student.trainer.precision=32-true")
    assert teacher["completions/r1_qwen32b@math12k"] != plain["completions/r1_qwen32b@math12k"]
    assert student["models/qwen7b+micota"] != plain["models/qwen7b+micota"]
    assert student["models/qwen14b+strong"] == plain["models/qwen14b+strong"]
    assert student["completions/qwen7b+micota@gsm8k"] != plain["completions/qwen7b+micota@gsm8k"]
    assert student["bpc/micota@qwen7b"] != plain["bpc/micota@qwen7b"]


def test_every_node_knows_the_model_that_runs(composed: Composed) -> None:
    config = composed("evaluate", "bench=[gsm8k]", "data=micota", "engine@short_generator.engine=hf")
    nodes = {node.folder.rpartition("-")[0]: node for target in graph.evaluation(config) for node in target.walk()}
    runs = {name: node.runs and node.runs.name for name, node in nodes.items()}
    assert runs["completions/r1_qwen32b@math12k"] == "r1_qwen32b" and runs["data/micota"] is None
    assert runs["models/qwen14b+strong"] == runs["completions/qwen14b+strong.dare_ties-d0.5-w0.5@math12k"] == "qwen14b"
    assert runs["models/qwen7b+micota"] == runs["completions/qwen7b+micota@gsm8k"] == runs["bpc/micota@qwen7b"]
    assert runs["bpc/micota@qwen7b"] == "qwen7b"
    other = graph.evaluation(composed("evaluate", "bench=[gsm8k]", "model=qwen72b", "model.engine=vllm"))
    runs_other = other[0].inputs["completions"].runs
    assert runs_other is not None and runs_other.engine is not None and runs_other.engine.name == "vllm"


@pytest.mark.parametrize(("typed", "hydra"), [
    ("ta.trainer=fsdp", "trainer@ta.trainer=fsdp"),
    ("teacher.engine=vllm,hf", "engine@teacher.engine=vllm,hf"),
    ("ta.trainer=null", "~trainer@ta.trainer"),
    ("ta.trainer.devices=8", "ta.trainer.devices=8"),
    ("ta.trainer={devices: 8}", "ta.trainer={devices: 8}"),
    ("engine=vllm", "engine=vllm"),
])  # fmt: skip
def test_choices_are_those_of_hydra_and_are_printed_as_they_were_typed(typed: str, hydra: str) -> None:
    assert for_hydra([typed]) == [hydra]
    assert as_typed([hydra]) == [typed]


@pytest.mark.parametrize(("override", "words"), [
    ("teacher.trainer=fsdp", "teacher.trainer: this model is not fine-tuned; accepted: ta.trainer, student.trainer"),
    ("ta.engine.batch_size=-3", "ta.engine.batch_size=-3; accepted: a number above 0"),
    ("teacher.engine.tensor_paralel=2", "no such key; did you mean 'tensor_parallel'"),
    ("small.engine=hf small.engine.tensor_parallel=2", "small.engine: tensor_parallel=2 is a setting of engine=vllm"),
])  # fmt: skip
def test_a_mistake_names_the_key_of_the_role(override: str, words: str) -> None:
    from micota import compose

    with pytest.raises(ConfigError) as caught:
        compose(override.split(" "), "pipeline")
    assert words in str(caught.value)


def test_null_leaves_out_a_model_that_need_not_be_there(composed: Composed) -> None:
    for typed in ("model@long_generator=null", "model@merge.tuned=null"):
        assert for_hydra([typed]) == [typed.removeprefix("model@").replace("=null", ".path=null")]
    config = composed("generate", "data=mix_long", "model@long_generator=null")
    assert generator_config(config, "long_generator").path == config.teacher.path
