"""From a config to a merge sweep: the models and settings of its merges, and how the student measures them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from itertools import combinations
from os.path import normpath
from typing import Any

from micota.config import ENGINES, MERGE_METHODS, BestConfig, Config, MergeMethod, SourceConfig
from micota.config.curriculum import STEERED, CurriculumConfig
from micota.config.mergekit import MERGEKIT
from micota.config.merging import MergeConfig
from micota.config.rows import RowsConfig
from micota.config.running import AUTO
from micota.errors import ConfigError
from micota.graph.models import (
    completions_spec,
    generation_prompt,
    named,
    rows,
    select_of,
    source,
    sources_of,
    train_spec,
    training_prompt,
)
from micota.graph.node import AnyNode, Node
from micota.graph.specs import (
    FilteredSpec,
    LikelihoodSpec,
    MergeSpec,
    MergeSweepSpec,
    Prompt,
    ScoresSpec,
    SourceSpec,
    StudentSpec,
)
from micota.records import RANK_CLIP

Tuned = Callable[[], AnyNode]  # the TA after SFT, which not every merge needs
BY_TENSOR = ("density", "weight", "instruct_density", "instruct_weight")  # one number, or one of each tensor


def merge_sweep(config: Config, tuned: Tuned) -> Node[MergeSweepSpec]:
    """The merged TA measured at the points of ``merge_sweep``; with a target length, at the points of a search.

    Raises:
        ConfigError: mergekit is to merge, which cannot merge in memory.
    """
    if config.merge.method == MERGEKIT:
        raise ConfigError(
            "merge.method=mergekit cannot be measured in a sweep, which merges in memory; accepted for sweep=true and "
            f"compare.measures=[merge_sweep]: {', '.join(MERGE_METHODS)}; several configurations of mergekit: "
            "-m merge.config.merge_method=linear,karcher"
        )
    sweep, merge = config.merge_sweep, config.merge
    method = MERGE_METHODS[merge.method]
    inputs = merge_inputs(config, tuned)
    evolves = merge.search == "cma_es"
    pool = config.problems if sweep.problems.path is None else sweep.problems
    problems = replace(rows(pool), limit=sweep.num_problems)
    answers = completions_spec(config, problems, config.ta, sweep.sampling, generation_prompt(config.prompt))
    spec = MergeSweepSpec(
        merge=merge_spec(config, None, None),
        problems=problems,
        answers=answers,
        grader=config.evaluation.grader,
        densities=_densities(config, method),
        weights=sorted(set(sweep.weights)) if method.reads("weight") else [1.0],
        num_seeds=sweep.num_seeds if method.samples else 1,
        target_length_ratio=merge.target_length_ratio,
        tolerance=None if merge.target_length_ratio is None else sweep.tolerance,
        num_steps=sweep.num_steps if merge.is_calibrated and not evolves else None,
        target=merge.target,
        search=merge.search,
        accuracy_loss=sweep.accuracy_loss if merge.target == "student_bpc" else None,
        num_blocks=sweep.num_blocks if evolves else None,
        num_points=sweep.num_points if evolves else None,
        student=_student(config, problems, inputs["tuned"]),
    )
    if spec.student is not None:
        inputs["student"] = source(config.student)
    return Node(
        name=f"{inputs['tuned'].name}.{merge.method}" + (f"-{goal}" if (goal := wanted(config)) else ""),
        spec=spec,
        inputs=inputs,
        command="merge",
        # Calibration is part of the command of its merge; a grid has a separate command.
        choose={} if merge.is_calibrated else {"sweep": "true"},
        runs=config.ta,
    )


def _densities(config: Config, method: MergeMethod) -> list[float]:
    """The densities of a sweep, in order.

    Raises:
        ConfigError: there are several, and evolution has one.
    """
    densities = sorted(set(config.merge_sweep.densities)) if method.reads("density") else [1.0]
    if config.merge.search == "cma_es" and len(densities) > 1:
        raise ConfigError(
            f"merge_sweep.densities={densities} with merge.search=cma_es, which has one; accepted: a list of one"
        )
    return densities


def check_engine(config: Config, node: AnyNode) -> None:
    """Refuse engines that cannot take the weights of one merge after another; ``auto`` never stands for one of these.

    Raises:
        ConfigError: the engine is neither ``hf`` nor ``vllm`` on one device.
    """
    engine = config.placed(node.runs).engine
    if engine.name == AUTO or (ENGINES[engine.name].takes_weights and engine.parts == 1):
        return
    able = " or ".join(f"engine={name}" for name, kind in ENGINES.items() if kind.takes_weights)
    raise ConfigError(
        f"engine={engine.name} with engine.tensor_parallel={engine.parts} cannot take the weights of one "
        f"merge after another; accepted for a merge sweep or a calibration: {able}, on one device"
    )


def _student(config: Config, problems: SourceConfig, tuned: AnyNode) -> StudentSpec | None:
    """How the student of the config measures a merge, where it chooses its teacher."""
    sweep, ta = config.merge_sweep, config.ta
    # It runs inside of the sweep, whose engine and trainer are those of the TA.
    student = replace(
        config.student, engine=config.student.engine or ta.engine, trainer=config.student.trainer or ta.trainer
    )
    if config.merge.target not in ("student_bpc", "student_gain"):
        return None
    # Of right answers, so that the number of wrong ones does not count; bounded apart by the accuracy.
    select = select_of(replace(config.select, match="none", num_examples=None, decontaminate="none"))
    data = FilteredSpec(
        recipe="merged",
        problems=problems,
        prompt=training_prompt(config.prompt),
        select=replace(select, filters=["finished", "correct"]).settled(),
        seed=config.seed,
        decontaminate_against={},
        thinking=config.ta.thinking,
    )
    if config.merge.target == "student_bpc":
        measured = LikelihoodSpec(precision=config.trainer_of(student).precision, rank_clip=RANK_CLIP)
        return StudentSpec(data=data, likelihood=measured)
    if student.sft is None:
        raise ConfigError(
            f"student={student.name} has no training settings, and merge.target=student_gain tunes it; add student.sft "
            "to its YAML"
        )
    once = replace(
        student.sft,
        max_steps=sweep.student_steps,
        max_flops=None,
        validation_fraction=0.0,
        validation=RowsConfig(),
        best=BestConfig(),
        # One training on one set: there are no rounds to steer.
        curriculum=CurriculumConfig() if student.sft.curriculum.order == STEERED else student.sft.curriculum,
    )
    prompt = Prompt(template=config.prompt.evaluation_template or config.prompt.template, system=config.prompt.system)
    held_out = replace(problems, skip=problems.skip + sweep.num_problems, limit=sweep.num_held_out)
    return StudentSpec(
        data=data,
        train=train_spec(config, student, once.settled(sources_of(tuned))),
        answers=completions_spec(config, held_out, student, config.evaluation.sampling, prompt),
        scores=ScoresSpec(problems=held_out, grader=config.evaluation.grader, judge=None),
    )


def wanted(config: Config) -> str:
    """What a sweep looks for, in a name: how it varies weights, and what calibration is to reach."""
    merge = config.merge
    ratio = "" if merge.target_length_ratio is None else f"len{merge.target_length_ratio:g}"
    return "-".join(filter(None, ("" if merge.search == "grid" else merge.search, merge.target or ratio)))


def merge_inputs(config: Config, tuned: Tuned) -> dict[str, AnyNode]:
    """The inputs of a merge. The TA before SFT is the base, or one of the merged models if the base is another."""
    merge = config.merge
    base, instruct = (source(config.ta if it.path is None else named(it)) for it in (merge.base, merge.instruct))
    inputs = {"base": base, "tuned": tuned()}
    inputs |= {"instruct": instruct} if merge.has_instruct else {}
    for (first, one), (second, other) in combinations(inputs.items(), 2):
        if one.is_source and other.is_source and _same_weights(one.spec, other.spec):
            raise ConfigError(
                f"merge.{second}.path={other.spec.path!r}: merge.{first} is the same model; accepted: models with "
                "other weights (where the path of base or instruct is null, it is the TA before SFT)"
            )
    return inputs


def _same_weights(one: SourceSpec, other: SourceSpec) -> bool:
    is_local = one.fingerprint is not None or one.path.startswith("bundled:")  # the same at any revision
    return normpath(one.path) == normpath(other.path) and (is_local or one.revision == other.revision)


def merge_spec(config: Config, density: Any, weight: Any) -> MergeSpec:
    """The settings of a merge; those of ``instruct`` only if it is one of the merged models."""
    values: dict[str, Any] = {item.name: getattr(config.merge, item.name, None) for item in fields(MergeSpec)}
    if not config.merge.has_instruct:
        values |= {"instruct_density": None, "instruct_weight": None}
    values |= {"density": density, "weight": weight, "seed": config.seed}
    method = MERGE_METHODS[config.merge.method]
    for item in fields(MergeConfig):  # what the method does not read makes no other merge: a default stands for it
        if not method.reads(item.name) and values.get(item.name) is not None:
            values[item.name] = item.default
    values["seed"] = config.seed if method.reads("seed") else 0
    return MergeSpec(**values | {name: _floats(values[name]) for name in BY_TENSOR})


def _floats(setting: Any) -> Any:
    """A density or weight with all numbers as floats: 1 and 1.0 are one setting, and one key."""
    if isinstance(setting, list):
        return [_floats(item) for item in setting]
    if isinstance(setting, dict):
        return {**setting, "value": _floats(setting["value"])}
    return None if setting is None else float(setting)


def label_of(setting: Any) -> str:
    """The text of a density or weight in a name; ``mixed`` for values by module."""
    if not isinstance(setting, list):
        return f"{setting:g}"
    return "mixed" if isinstance(setting[0], dict) else "_".join(f"{value:g}" for value in setting)
