"""Evaluations of models: scores, the BPC of their data, rank shifts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from micota.config import Config, DoctorConfig, EvaluateConfig, ModelConfig
from micota.errors import ConfigError
from micota.graph.models import (
    completions,
    evaluation_prompt,
    generator_config,
    likelihood,
    named,
    rows,
    source,
)
from micota.graph.node import AnyNode, Node
from micota.graph.nodes import model, released, student_data
from micota.graph.specs import DeterminismSpec, ForecastSpec, LikelihoodSpec, RankShiftSpec, ScoresSpec

REPEATING = ("hf", "vllm")  # engines of this machine, of which each can repeat what the other did


def scores(
    config: Config, role: str, subject: AnyNode | None = None, generator: ModelConfig | None = None
) -> dict[str, Node[ScoresSpec]]:
    """The graded completions of a role, or of another model ``subject`` with the settings of ``generator``, by
    benchmark."""
    of_role = {"role": role} if role != "student" else {"data": config.data.chosen}
    choose = of_role if subject is None else {}  # another model is named in the overrides of the command
    subject = subject or model(config, role)
    if role == "student" and config.data.released:
        generator = generator or released(config)
    generator = generator or generator_config(config, role)
    judge = config.evaluation.judge
    nodes = {}
    for name, bench in config.bench.items():
        sampling, prompt = config.evaluation.sampling_of(name), evaluation_prompt(config.prompt, bench)
        answers = completions(
            config, subject, bench, name, generator, sampling, prompt, command="evaluate", choose=choose
        )
        nodes[name] = Node(
            name=answers.name,
            spec=ScoresSpec(
                problems=rows(bench),
                grader=config.evaluation.grader,
                judge=judge.model,
                level_column=bench.level_column,
                subject_column=bench.subject_column,
                budgets=sorted(set(config.evaluation.budgets)),
            ),
            inputs={"completions": answers},
            command="evaluate",
            choose=choose,
            benchmark=name,
        )
    return nodes


def evaluation(config: EvaluateConfig) -> list[AnyNode]:
    """The targets of evaluate.py: scores, and for the recipe of a student the BPC of its data; or only rank shifts."""
    if config.rank_shift:
        return list(rank_shifts(config).values())
    if config.model.path is not None:
        other = named(config.model)
        return list(scores(config, config.role, source(other), other).values())
    measured = bpc(config) if config.role == "student" else None
    return [*scores(config, config.role).values(), *([measured] if measured else [])]


def bpc(config: Config) -> Node[LikelihoodSpec] | None:
    """Bits per character of the recipe's data (of a training in rounds those of the first) under the student before
    SFT; None for the recipe without data."""
    if config.data.is_untuned:
        return None
    return likelihood(config, student_data(config), "evaluate", {"data": config.data.chosen})


def rank_shifts(config: Config) -> dict[str, Node[RankShiftSpec]]:
    """By benchmark, the ranks that the tuned student's tokens had under the student before SFT; none for the latter.

    Raises:
        ConfigError: completions are sampled. Only in greedy ones each token has rank 0 under the tuned model, so that
            its rank before tuning is the shift.
    """
    if config.data.is_untuned:
        return {}
    temperature = config.evaluation.sampling.temperature
    if temperature > 0:
        raise ConfigError(
            f"evaluation.sampling.temperature={temperature:g}: rank shifts are of greedy answers; accepted: 0"
        )
    return {
        name: Node(
            name=graded.name,
            spec=RankShiftSpec(precision=config.trainer_of(config.student).precision),
            inputs={"model": source(config.student), "completions": graded.inputs["completions"]},
            command="evaluate",
            choose={"data": config.data.chosen, "rank_shift": "true"},
            benchmark=name,
            runs=config.student,
        )
        for name, graded in scores(config, "student").items()
    }


def forecast(config: Config, recipes: Mapping[str, Config], before: Config, outcomes: str) -> Node[ForecastSpec]:
    """What the student is expected to gain from each of ``recipes``.

    Args:
        recipes: the config of each recipe, by name; those without data are left out.
        before: the config of the recipe without data, the student before SFT.
        outcomes: the sum of the table of finished trainings.
    """
    measured = {name: node for name, of_recipe in recipes.items() if (node := bpc(of_recipe)) is not None}
    inputs: dict[str, AnyNode] = {data_of_forecast(name): node for name, node in measured.items()}
    inputs |= {f"scores of {bench}": node for bench, node in scores(before, "student").items()}
    return Node(
        name=config.student.name,
        spec=ForecastSpec(recipes=list(measured), outcomes=outcomes),
        inputs=inputs,
        command="forecast",
        choose={},
    )


def data_of_forecast(recipe: str) -> str:
    """The input of a forecast that measures the data of a recipe."""
    return f"data of {recipe}"


def determinism(config: DoctorConfig, left_out: dict[str, str]) -> dict[str, Node[DeterminismSpec]]:
    """By benchmark, the repetitions of the evaluation of a role, or of another model.

    Args:
        left_out: by name, why an engine cannot repeat it here.
    """
    if config.model.path is None:
        graded = scores(config, config.role)
    else:
        other = named(config.model)
        graded = scores(config, config.role, source(other), other)
    engines = [name for name in REPEATING if name not in left_out] if config.audit.other_engine else []
    nodes = {}
    for name, node in graded.items():
        completions = node.inputs["completions"]
        first = min(filter(None, (config.audit.num_problems, node.spec.problems.limit)))
        nodes[name] = Node(
            name=completions.name,
            spec=DeterminismSpec(
                answers=replace(completions.spec, questions=replace(completions.spec.questions, limit=first)),
                problems=replace(node.spec.problems, limit=first),
                grader="typed" if config.evaluation.grader == "judge" else config.evaluation.grader,
                batch_sizes=sorted(set(config.audit.batch_sizes)),
                num_threads=sorted(set(config.audit.num_threads)),
                engines=engines,
                left_out=left_out if config.audit.other_engine else {},
            ),
            inputs={"model": completions.inputs["model"]},
            command="doctor",
            choose={**node.choose, "determinism": "true"},
            benchmark=name,
            runs=completions.runs,
        )
    return nodes
