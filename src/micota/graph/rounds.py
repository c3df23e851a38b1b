"""Training of the student in rounds: the student after one round chooses the data of the next.

A round is made of nodes as any other: the likelihoods of the candidates under the student at that point, the choice
among them, and a training on it. So keys stay hashes of settings, and a stopped run goes on in its round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from micota.config import Config, SftConfig
from micota.config.curriculum import STEERED, CurriculumConfig
from micota.config.objective import ON_POLICY
from micota.errors import ConfigError
from micota.graph.models import likelihood, likelihood_of
from micota.graph.node import AnyNode, Node
from micota.graph.specs import MATCHED, DataSpec, MostLikelySpec
from micota.seeding import seed_of

BY = "student_rsr"  # what ranks the candidates of a recipe without select_by: a measure of the forecast
ORDER = f"student.sft.curriculum.order={STEERED}"


def is_steered(config: Config) -> bool:
    """Whether the student's data are chosen in rounds."""
    sft = config.student.sft
    return sft is not None and sft.curriculum.order == STEERED and bool(config.data.parts)


def check_rounds(config: Config) -> None:
    """Refuse a training in rounds that there cannot be.

    Raises:
        ConfigError: there is nothing to choose from, or the rounds cannot be as other settings want them.
    """
    sft, recipe = config.student.sft, config.data
    if sft is None or sft.curriculum.order != STEERED:
        return
    rounds = sft.curriculum.rounds
    if not recipe.parts:
        raise ConfigError(
            f"{ORDER} with data={recipe.chosen}, which has no parts to choose from; accepted: a recipe of parts, as "
            "data=annealed"
        )
    if config.objective.name == ON_POLICY:
        raise ConfigError(
            f"{ORDER} with objective={ON_POLICY}, which learns on answers of the student; accepted: sft, logit_kd"
        )
    if config.select.match == "tokens":
        raise ConfigError(
            f"{ORDER} with select.match=tokens: each round chooses other completions; accepted: problems, none"
        )
    if sft.max_steps is not None and sft.max_steps < rounds:
        raise ConfigError(
            f"student.sft.max_steps={sft.max_steps} with student.sft.curriculum.rounds={rounds}; accepted: at least a "
            "step a round"
        )
    trainer = config.trainer_of(config.student)
    if trainer.continue_from is not None:
        raise ConfigError(
            f"trainer.continue_from={trainer.continue_from} with {ORDER}: a longer run has longer rounds; accepted: "
            f"null, or student.path={trainer.continue_from}, which starts from its weights"
        )


def sft_of_round(sft: SftConfig, number: int, rounds: int) -> SftConfig:
    """The settings of one round (from 0): an equal share of the training, in random order."""
    steps = sft.max_steps
    return replace(
        sft,
        curriculum=CurriculumConfig(),
        epochs=sft.epochs if steps is not None or sft.max_flops is not None else sft.epochs / rounds,
        max_steps=None if steps is None else steps * (number + 1) // rounds - steps * number // rounds,
        max_flops=None if sft.max_flops is None else sft.max_flops / rounds,
    ).settled()


def seed_of_round(seed: int, number: int) -> int:
    """The seed of the order of a round's examples: a round of less than an epoch sees other problems than the last."""
    return seed if number == 0 else seed_of("round", seed, number) % 2**31


def data_of_round(
    config: Config,
    candidates: Mapping[str, AnyNode],
    matched: AnyNode | None,
    shared: Mapping[str, Any],
    number: int,
    student: AnyNode,
) -> Node[DataSpec]:
    """The data of one round (from 0): for each problem the candidate that ``student`` ranks first.

    Args:
        candidates: the data of each part of the recipe, by label.
        matched: the data of the recipe as the comparison matches them, whose problems are used; None: all problems.
        shared: the fields that all specs of data have.
    """
    recipe = config.data
    # The first round's data need no training: generate makes them.
    command, choose = ("generate" if number == 0 else "train"), {"data": recipe.chosen}
    inputs = dict(candidates)
    for label, part in candidates.items():
        inputs[likelihood_of(label)] = likelihood(config, part, command, choose, student)
    if matched is not None:
        inputs[MATCHED] = matched
    spec = MostLikelySpec(**shared, select_by=recipe.select_by or BY)
    return Node(name=f"{recipe.name}.round{number + 1}", spec=spec, inputs=inputs, command=command, choose=choose)


def name_of_round(name: str, number: int, rounds: int) -> str:
    """The name of the model after a round (from 0); the last is that of the whole training."""
    return f"{name}.steered" if number + 1 == rounds else f"{name}.round{number + 1}"


def rounds_of(training: AnyNode) -> list[AnyNode]:
    """The trainings of a student in order: of one that was trained in rounds, each of them."""
    before = training.inputs["model"]
    return [*(rounds_of(before) if before.stage == "train" else []), training]
