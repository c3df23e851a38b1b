"""Models that are there already, what they are asked and how, and what is read off them."""

from __future__ import annotations

import re
from dataclasses import fields, replace

from micota.config import (
    Config,
    ModelConfig,
    OtherModelConfig,
    PromptConfig,
    QuestionsConfig,
    SamplingConfig,
    SourceConfig,
)
from micota.graph.specs import CompletionsSpec, ModelSpec, Prompt, ReadingSpec
from micota.records import Node


def rows(named: SourceConfig) -> SourceConfig:
    """The fields that say which rows, without the name they go by."""
    return SourceConfig(**{item.name: getattr(named, item.name) for item in fields(SourceConfig)})


def questions(named: QuestionsConfig) -> QuestionsConfig:
    """The fields that say what is asked, without the answers."""
    return QuestionsConfig(**{item.name: getattr(named, item.name) for item in fields(QuestionsConfig)})


def training_prompt(prompt: PromptConfig) -> Prompt:
    """The prompt of training examples: always a chat turn, since that is what the tuned model will see."""
    return Prompt(template=prompt.template, system=prompt.training_system or prompt.system)


def generation_prompt(prompt: PromptConfig) -> Prompt:
    return Prompt(template=prompt.template, system=prompt.system, as_chat=prompt.generation_as_chat)


def evaluation_prompt(prompt: PromptConfig) -> Prompt:
    return Prompt(template=prompt.evaluation_template or prompt.template, system=prompt.system)


def source(model: ModelConfig) -> Node:
    """A model that is there already."""
    spec = ModelSpec(path=model.path, revision=model.revision, fingerprint=model.fingerprint)
    return Node(kind="source", stage="source", name=model.name, spec=spec)


def named(model: OtherModelConfig) -> ModelConfig:
    """A model of any name by that name, or by the last part of its path."""
    assert model.path is not None
    last = model.path.rstrip("/").rpartition("/")[2]
    return replace(model, name=model.name or re.sub(r"[^\w.-]", "-", last) or "model")


def author_config(config: Config, role: str) -> ModelConfig:
    """The model config behind a role; every form of the TA writes as the TA does."""
    by_role = {
        "teacher": config.teacher,
        "large": config.large,
        "small": config.small,
        "student": config.student,
    }
    return by_role.get(role, config.ta)


def completions(
    config: Config,
    model: Node,
    problems: SourceConfig,
    name: str,
    writer: ModelConfig,
    sampling: SamplingConfig,
    prompt: Prompt,
    *,
    door: str,
    choose: dict[str, str],
) -> Node:
    """The answers of ``model``, which writes as ``writer``, to ``problems``, which are called ``name``."""
    spec = CompletionsSpec(
        questions=questions(problems),
        prompt=prompt,
        sampling=sampling,
        thinking=writer.thinking,
        engine=config.engine.numerics,
        dtype=config.engine.dtype,
        seed=config.seed if sampling.temperature > 0 else None,
    )
    return Node(
        kind="completions",
        stage="generate",
        name=f"{model.name}@{name}",
        spec=spec,
        inputs={"model": model},
        door=door,
        choose=choose,
    )


def likelihood_of(label: str) -> str:
    """The input of an arm with ``select_by`` that holds the likelihoods of the part ``label``."""
    return f"likelihood_of_{label}"


def likelihood(config: Config, examples: Node, door: str, choose: dict[str, str]) -> Node:
    return Node(
        kind="bpc",
        stage="measure",
        name=f"{examples.name}@{config.student.name}",
        spec=ReadingSpec(precision=config.trainer.precision),
        inputs={"model": source(config.student), "data": examples},
        door=door,
        choose=choose,
    )
