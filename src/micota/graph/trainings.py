"""From a config to a training: its model, its data, its teacher and its rows for validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from micota.config import Config, PartConfig, SelectConfig
from micota.config.curriculum import STEERED
from micota.config.models import name_of
from micota.config.objective import NOT_STORED
from micota.config.rows import RowsConfig
from micota.errors import ConfigError
from micota.graph.models import named, source, sources_of, train_spec
from micota.graph.node import AnyNode, Node
from micota.graph.objectives import distillation
from micota.graph.rounds import (
    ORDER,
    check_rounds,
    data_of_round,
    is_steered,
    name_of_round,
    seed_of_round,
    sft_of_round,
)
from micota.graph.specs import DataSpec, LikelihoodSpec, MatchedSpec, TrainSpec, parts_of
from micota.graph.teachers import TARGETS, TEACHER, check_sequence, in_order, targets


@dataclass(frozen=True, kw_only=True)
class Makers:
    """The functions for other nodes that a training needs.

    ``data`` is of a recipe, ``candidates`` the data of each part of the student's recipe, ``shared`` the fields that
    all specs of the data of these candidates have, ``model`` of a role, ``merged_at`` the TA merged at a weight,
    ``generated`` of rows or one generator.
    """

    data: Callable[..., Node[DataSpec]]
    candidates: Callable[[Config], dict[str, AnyNode]]
    shared: Callable[[Config, dict[str, AnyNode]], dict[str, Any]]
    model: Callable[[Config, str], AnyNode]
    merged_at: Callable[[Config, float], AnyNode]
    generated: Callable[[Config, PartConfig, SelectConfig, dict[str, str]], Node[DataSpec]]


def student_data(config: Config, make: Makers) -> Node[DataSpec]:
    """The data of the student's recipe; of a training in rounds those of the first."""
    if not is_steered(config):
        return make.data(config, config.data)
    return _data_of_round(config, make, 0, source(config.student))


def trained(config: Config, role: str, make: Makers) -> Node[TrainSpec]:
    """The TA tuned on ``ta_data`` (``role="ta"``), or the student tuned on ``data``.

    Raises:
        ConfigError: the recipe has no data, or the model no training settings.
    """
    base, recipe = (config.ta, config.ta_data) if role == "ta" else (config.student, config.data)
    if base.sft is None:
        raise ConfigError(f"{role}={base.name} has no training settings; add {role}.sft to its YAML")
    if role != "ta":
        check_rounds(config)
        if is_steered(config):
            return _in_rounds(config, make)
    elif base.sft.curriculum.order == STEERED:
        raise ConfigError(f"ta.sft.curriculum.order={STEERED}; accepted: any other, or {ORDER}")
    return _training(config, role, make, source(base), make.data(config, recipe, matched=role != "ta"))


def _in_rounds(config: Config, make: Makers) -> Node[TrainSpec]:
    """The student after the last round."""
    assert config.student.sft is not None
    rounds = config.student.sft.curriculum.rounds
    model: AnyNode = source(config.student)
    for number in range(rounds):
        whole = _training(config, "student", make, model, _data_of_round(config, make, number, model))
        spec = replace(
            whole.spec,
            sft=sft_of_round(whole.spec.sft, number, rounds),
            seed=seed_of_round(config.seed, number),
        )
        model = replace(whole, name=name_of_round(whole.name, number, rounds), spec=spec)
    return model


def _data_of_round(config: Config, make: Makers, number: int, student: AnyNode) -> Node[DataSpec]:
    candidates = make.candidates(config)
    matched = None if config.select.match == "none" else make.data(config, config.data)
    return data_of_round(config, candidates, matched, make.shared(config, candidates), number, student)


def _training(config: Config, role: str, make: Makers, model: AnyNode, examples: Node[DataSpec]) -> Node[TrainSpec]:
    """``model`` tuned on ``examples``."""
    base, recipe = (config.ta, config.ta_data) if role == "ta" else (config.student, config.data)
    assert base.sft is not None
    objective = distillation(config.objective) if role != "ta" else None
    choose = {"role": role} if role == "ta" else {"data": recipe.chosen}
    inputs: dict[str, AnyNode] = {"model": model, "data": examples}
    if base.sft.validation.path is not None:
        inputs["validation"] = _validation(config, base.sft.validation, choose, make)
    suffix = "" if objective is None else ".".join(["", objective.name, *_weights_in_name(config)])
    node = Node(
        name=f"{base.name}+{recipe.name}{suffix}",
        spec=replace(train_spec(config, base, base.sft.settled(generators_of(examples))), objective=objective),
        inputs=inputs,
        command="train",
        choose=choose,
        runs=base,
    )
    return node if objective is None else replace(node, inputs=inputs | _taught(config, node, make))


def _weights_in_name(config: Config) -> list[str]:
    """The weights of merged TAs that are the teacher one after the other, for the name of a model."""
    weights = config.objective.merge_weights
    return ["w" + "-".join(f"{weight:g}" for weight in weights)] if weights else []


def _taught(config: Config, node: Node[TrainSpec], make: Makers) -> dict[str, AnyNode]:
    """The inputs from which the student of ``node`` learns probabilities, in order: teachers, or what is stored of
    them."""
    objective = config.objective
    weights = objective.merge_weights
    if weights:
        check_sequence(config)
    models = [make.merged_at(config, weight) for weight in weights] or [_teacher(config, make)]
    if objective.stored == NOT_STORED:
        return in_order(TEACHER, models)
    return in_order(TARGETS, [targets(objective, model, node) for model in models])


def _teacher(config: Config, make: Makers) -> AnyNode:
    """The model whose probabilities the student learns.

    Raises:
        ConfigError: the objective names no model.
    """
    objective = config.objective
    if objective.teacher != "model":
        return make.model(config, objective.teacher)
    if objective.model.path is None:
        raise ConfigError(
            "objective.teacher=model, and objective.model.path is null; accepted: objective.teacher=PATH, or an "
            "option, as model@objective.model=qwen7b"
        )
    return source(named(objective.model))


def _validation(config: Config, read: RowsConfig, choose: dict[str, str], make: Makers) -> Node[DataSpec]:
    """Rows for validation: filtered as training rows are, all of them, and compared with no benchmark."""
    assert read.path is not None
    recipe = PartConfig(name=name_of(read.path), **{item.name: getattr(read, item.name) for item in fields(RowsConfig)})
    select = replace(config.select, match="none", num_examples=None, decontaminate="none")
    return replace(make.generated(config, recipe, select, choose), command="train")


def generators_of(examples: Node[DataSpec]) -> set[str]:
    """The paths of the models that generated training data, and of those that a generator was tuned on or merged
    from."""
    inputs = parts_of(examples) or examples.inputs
    if isinstance(examples.spec, MatchedSpec):  # it has the inputs of all recipes that are matched with it
        inputs = {label: inputs[label] for label in examples.spec.compared[examples.spec.compared_as]}
    generated = [child for child in inputs.values() if not isinstance(child.spec, LikelihoodSpec)]
    return {path for child in generated for path in sources_of(child)}
