"""Source models, their prompts and completions, and the likelihood of data under them."""

from __future__ import annotations

from dataclasses import fields, replace

from micota.config import (
    BenchConfig,
    Config,
    ModelConfig,
    OtherModelConfig,
    PartConfig,
    PromptConfig,
    QuestionsConfig,
    SamplingConfig,
    SelectConfig,
    SftConfig,
    SourceConfig,
)
from micota.config.fields import declaration
from micota.config.models import name_of
from micota.config.rows import RowsConfig
from micota.errors import ConfigError
from micota.graph.node import AnyNode, Node
from micota.graph.specs import CompletionsSpec, LikelihoodSpec, Prompt, SourceSpec, TrainSpec
from micota.records import RANK_CLIP


def rows(named: SourceConfig) -> SourceConfig:
    """The fields that determine the rows, without their name."""
    return SourceConfig(**{item.name: getattr(named, item.name) for item in fields(SourceConfig)})


def questions(named: QuestionsConfig) -> QuestionsConfig:
    """The fields that determine the questions, without their answers."""
    return QuestionsConfig(**{item.name: getattr(named, item.name) for item in fields(QuestionsConfig)})


def training_rows(recipe: RowsConfig) -> RowsConfig:
    """The fields of a recipe that determine the rows at its path."""
    values = {item.name: getattr(recipe, item.name) for item in fields(RowsConfig) if declaration(item).results}
    return RowsConfig(**values)


def training_prompt(prompt: PromptConfig) -> Prompt:
    """The prompt of training examples: always a chat turn, as in the evaluation of the tuned model."""
    return Prompt(template=prompt.template, system=prompt.training_system or prompt.system)


def generation_prompt(prompt: PromptConfig) -> Prompt:
    return Prompt(template=prompt.template, system=prompt.system, as_chat=prompt.generation_as_chat)


def evaluation_prompt(prompt: PromptConfig, bench: BenchConfig) -> Prompt:
    """The prompt of a benchmark's problems, whose own template goes before that of all."""
    published = bench.paper_template if prompt.per_benchmark else None
    template = published or bench.template or prompt.evaluation_template or prompt.template
    return Prompt(template=template, system=prompt.system)


def source(model: ModelConfig) -> Node[SourceSpec]:
    """A model that exists before the experiment."""
    spec = SourceSpec(
        path=model.path,
        revision=model.revision,
        fingerprint=model.fingerprint,
        template=model.template_text,
        template_args=dict(model.template_args),
        date_string=model.date_string,
    )
    return Node(name=model.name, spec=spec)


def source_of(node: AnyNode) -> Node[SourceSpec]:
    """The model that exists before the experiment whose tokenizer a model has: a tuned or merged one keeps it."""
    while not node.is_source:
        node = node.inputs["tuned"] if "tuned" in node.inputs else node.inputs["model"]
    return node


def named(model: OtherModelConfig) -> ModelConfig:
    """``model`` with its name, or with the last part of its path as name."""
    assert model.path is not None
    return replace(model, name=model.name or name_of(model.path))


def generator_config(config: Config, role: str) -> ModelConfig:
    """The model config of a role; every form of the TA has the settings of the TA."""
    if role in ("ta_sft", "ta_merged"):
        return _tuned_ta(config)
    if role in ("long_generator", "short_generator"):
        other: OtherModelConfig = getattr(config, role)
        if other.path is not None:
            return named(other)
    by_role = {
        "teacher": config.teacher,
        "long_generator": config.teacher,
        "large": config.large,
        "small": config.small,
        "student": config.student,
    }
    return by_role.get(role, config.ta)


def _tuned_ta(config: Config) -> ModelConfig:
    """The config of the TA after SFT. A model in its place samples as the TA, and thinks in its own tags if it has any
    in the config."""
    if config.merge.tuned.path is None:
        return config.ta
    tuned = named(config.merge.tuned)
    thinking = tuned.thinking if tuned.thinking.open else config.ta.thinking
    return replace(tuned, sampling=config.ta.sampling, thinking=thinking, engine=tuned.engine or config.ta.engine)


def generator_of(config: Config, recipe: PartConfig) -> ModelConfig:
    """The config of the model that generates the data of a recipe or part.

    Raises:
        ConfigError: the recipe names no model.
    """
    if recipe.generator != "model":
        return generator_config(config, recipe.generator)
    if recipe.model.path is None:
        raise ConfigError(
            f"data={recipe.name}: generator=model, and model.path is null; accepted: data.generator=PATH, "
            "data.model.path=PATH, or an option, as model@data.model=qwen3_8b"
        )
    return named(recipe.model)


def completions(
    config: Config,
    model: AnyNode,
    problems: SourceConfig,
    name: str,
    generator: ModelConfig,
    sampling: SamplingConfig,
    prompt: Prompt,
    *,
    command: str,
    choose: dict[str, str],
) -> Node[CompletionsSpec]:
    """The completions of ``model``, with the settings of ``generator``, for ``problems`` with the name ``name``."""
    return Node(
        name=f"{model.name}@{name}",
        spec=completions_spec(config, problems, generator, sampling, prompt),
        inputs={"model": model},
        command=command,
        choose=choose,
        benchmark=name,
        runs=generator,
    )


def completions_spec(
    config: Config, problems: SourceConfig, generator: ModelConfig, sampling: SamplingConfig, prompt: Prompt
) -> CompletionsSpec:
    """The settings that determine completions, both of a separate artifact and of a merge sweep."""
    engine = config.engine_of(generator)
    return CompletionsSpec(
        questions=questions(problems),
        prompt=prompt,
        sampling=sampling.settled(),
        thinking=generator.thinking,
        engine=engine.numerics,
        dtype=engine.dtype,
        extra_body=engine.extra_body,
        seed=config.seed if sampling.temperature > 0 else None,
    )


def likelihood_of(label: str) -> str:
    """The input of a recipe with ``select_by`` that holds the likelihoods of the part ``label``."""
    return f"likelihood_of_{label}"


def likelihood(
    config: Config, examples: AnyNode, command: str, choose: dict[str, str], student: AnyNode | None = None
) -> Node[LikelihoodSpec]:
    """The likelihood of ``examples`` under ``student``, by default the student before SFT."""
    student = student or source(config.student)
    return Node(
        name=f"{examples.name}@{student.name}",
        spec=LikelihoodSpec(precision=config.trainer_of(config.student).precision, rank_clip=RANK_CLIP),
        inputs={"model": student, "data": examples},
        command=command,
        choose=choose,
        runs=config.student,
    )


def select_of(select: SelectConfig, *recipes: PartConfig) -> SelectConfig:
    """The settings of a recipe, or of a part of it: those that it sets, over the settings of all recipes."""
    for recipe in recipes:
        select = replace(select, **recipe.select.given())
        for conflict in select.conflicts():
            raise ConfigError(f"select of data={recipe.name}: {conflict}")
    return select


def train_spec(config: Config, model: ModelConfig, sft: SftConfig) -> TrainSpec:
    """The settings of a model's training."""
    trainer = config.trainer_of(model)
    return TrainSpec(
        sft=sft,
        precision=trainer.precision,
        attention=trainer.attention,
        loss=trainer.loss,
        seed=config.seed,
        quantize=trainer.quantize,
        validation_of="questions" if sft.validation_fraction else None,
    )


def sources_of(node: AnyNode) -> set[str]:
    """The paths of the models that a node was made by, tuned on or merged from. The student that chose a merge is none
    of them."""
    if node.is_source:
        return {node.spec.path}
    return {path for label, child in node.inputs.items() if label != "calibration" for path in sources_of(child)}
