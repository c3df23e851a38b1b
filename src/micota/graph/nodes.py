"""From a config to what is made: data, tuned and merged models, and merges measured in memory."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from micota.config import (
    DRAWING_METHODS,
    Config,
    ConfigError,
    DataConfig,
    PartConfig,
    SelectConfig,
    ThinkingConfig,
)
from micota.graph.leaves import (
    author_config,
    completions,
    generation_prompt,
    likelihood,
    likelihood_of,
    named,
    questions,
    rows,
    source,
    training_prompt,
)
from micota.graph.specs import (
    CompletionsSpec,
    DataSpec,
    MergeSpec,
    ProbeSpec,
    TrainSpec,
)
from micota.records import Node


def data(config: Config, arm: DataConfig, *, matched: bool = True) -> Node:
    """The training data of one arm; ``matched=False`` leaves out what it is compared with.

    Raises:
        ConfigError: the arm has no data (the untouched student), or cannot be matched with others.
    """
    if arm.is_untuned:
        raise ConfigError(f"data={arm.name} is the untouched student: it has no training data; choose another arm")
    choose = {"data": arm.name}
    if config.select.match != "none":
        if matched:
            return _matched(config, arm)
        choose["select.match"] = "none"
    select = replace(config.select, match="none")
    if not arm.parts:
        return _written(config, arm, select, choose)
    # Only the mixture as a whole is held to the number of examples: its parts are drawn from all that was kept.
    pool = replace(select, num_examples=None)
    parts = {label: _written(config, part, pool, choose) for label, part in arm.parts.items()}
    inputs = parts | (_likelihoods(config, parts, choose) if arm.select_by is not None else {})
    return _data_node(config, arm, select, inputs, choose, weights=dict(arm.weights), select_by=arm.select_by)


def _likelihoods(config: Config, parts: dict[str, Node], choose: dict[str, str]) -> dict[str, Node]:
    """How likely the student finds what there is to choose from."""
    return {likelihood_of(label): likelihood(config, part, "generate", choose) for label, part in parts.items()}


def _matched(config: Config, arm: DataConfig) -> Node:
    """The data of an arm, chosen beside those of all arms that it is compared with."""
    match = config.select.match
    own_label = next((label for label, other in config.compared.items() if other == arm), None)
    if own_label is None:
        raise ConfigError(
            f"select.match={match} makes the arms of compare.arms alike ({', '.join(config.compared)}), and "
            f"data={arm.name} is none of them; add it there, or use select.match=none"
        )
    pool = replace(config.select, match="none", num_examples=None)
    pools: dict[str, Node] = {}
    likelihoods: dict[str, Node] = {}
    compared: dict[str, dict[str, float]] = {}
    for name, other in config.compared.items():
        choose = {"data": other.name, "select.match": "none", "select.num_examples": "null"}
        compared[name] = {}
        own: dict[str, Node] = {}
        for label, part in (other.parts or {other.name: other}).items():
            node = _written(config, part, pool, choose)
            if pools.setdefault(part.name, node).key != node.key:
                raise ConfigError(
                    f"select.match={match}: two authors of compare.arms are called {part.name}; rename one"
                )
            own[part.name] = pools[part.name]
            compared[name][part.name] = other.weights.get(label, 0.0) if other.parts else 1.0
            _check_one_each(config, part)
        if other.select_by is not None:
            likelihoods |= _likelihoods(config, own, choose)
    chosen = {"data": arm.name}
    own_weights = compared[own_label] if arm.select_by is None else {}
    return _data_node(
        config, arm, config.select, pools | likelihoods, chosen,
        weights=own_weights, select_by=arm.select_by, compared=compared, compared_as=own_label,
    )  # fmt: skip


def _check_one_each(config: Config, part: PartConfig) -> None:
    """With several examples a problem, arms on the same problems would have more of one problem than of another."""
    several = part.path is None and author_config(config, part.author).sampling.num_samples > 1
    if several and config.select.match == "problems" and config.select.best_of == "all":
        raise ConfigError(
            f"select.match=problems with several samples a problem ({part.name}) and select.best_of=all; accepted: "
            "select.best_of=shortest or median"
        )


def _written(config: Config, arm: PartConfig, select: SelectConfig, choose: dict[str, str]) -> Node:
    """What one author wrote and filters kept, or rows of the user's own."""
    if arm.path is not None:
        return _data_node(config, arm, select, {}, choose)
    author = model(config, arm.author)
    written = completions(
        config,
        author,
        config.problems,
        config.problems.name,
        author_config(config, arm.author),
        author_config(config, arm.author).sampling,
        generation_prompt(config.prompt),
        door="generate",
        choose={**choose, "data": arm.name},
    )
    held_out = {name: rows(bench) for name, bench in config.held_out.items() if select.decontaminate != "none"}
    return _data_node(config, arm, select, {"completions": written}, choose, held_out=held_out)


def _data_node(
    config: Config, arm: PartConfig, select: SelectConfig, inputs: dict[str, Node], choose: dict[str, str], **more: Any
) -> Node:
    """A node of data; ``more`` are the fields of its spec that are empty for most."""
    settings: dict[str, Any] = {
        "held_out": {},
        "weights": {},
        "select_by": None,
        "compared": {},
        "compared_as": None,
    } | more
    settings["thinking"] = ThinkingConfig()
    if "completions" in inputs:
        settings["thinking"] = inputs["completions"].spec.thinking
    spec = DataSpec(
        arm=arm.name,
        problems=rows(config.problems),
        prompt=training_prompt(config.prompt),
        select=select,
        path=arm.path,
        fingerprint=arm.fingerprint,
        seed=config.seed,
        **settings,
    )
    return Node(kind="data", stage="select", name=arm.name, spec=spec, inputs=inputs, door="generate", choose=choose)


def model(config: Config, role: str) -> Node:
    """The model in a role: ``teacher``, ``ta``, ``ta_sft``, ``ta_merged``, ``large``, ``small``, or ``student``
    (tuned on ``config.data``, or untouched where that arm has no data)."""
    if role == "ta_sft":
        return trained(config, "ta")
    if role == "ta_merged":
        return merged(config)
    if role == "student" and not config.data.is_untuned:
        return trained(config, "student")
    return source(author_config(config, role))


def trained(config: Config, role: str) -> Node:
    """The TA tuned on ``ta_data`` (``role="ta"``), or the student tuned on ``data``.

    Raises:
        ConfigError: the arm has no data, or the model no training settings.
    """
    base, arm = (config.ta, config.ta_data) if role == "ta" else (config.student, config.data)
    if base.sft is None:
        raise ConfigError(f"{role}={base.name} has no training settings; add {role}.sft to its YAML")
    return Node(
        kind="models",
        stage="train",
        name=f"{base.name}+{arm.name}",
        spec=TrainSpec(sft=base.sft.settled(), precision=config.trainer.precision, seed=config.seed),
        inputs={"model": source(base), "data": data(config, arm, matched=role != "ta")},
        door="train",
        choose={"role": role} if role == "ta" else {"data": arm.name},
    )


def merged(config: Config) -> Node:
    """The TA before and after SFT, merged; where a length is to be met, with the weight that calibration finds."""
    merge = config.merge
    inputs = _merge_inputs(config)
    if merge.target_length_ratio is None:
        spec = _merge_spec(config, merge.density, merge.weight)
        suffix = f"d{_label(merge.density)}-w{_label(merge.weight)}"
    else:
        spec = _merge_spec(config, None, None)
        suffix = f"len{merge.target_length_ratio:g}"
        inputs["calibration"] = probe(config)
    return Node(
        kind="models",
        stage="merge",
        name=f"{inputs['tuned'].name}.{merge.method}-{suffix}",
        spec=spec,
        inputs=inputs,
        door="merge",
    )


def probe(config: Config) -> Node:
    """The merged TA measured at the points of ``sweep``; where a length is to be met, at those of a search for it."""
    sweep, target = config.sweep, config.merge.target_length_ratio
    inputs = _merge_inputs(config)
    pool = config.problems if sweep.problems.path is None else sweep.problems
    problems = replace(rows(pool), limit=sweep.num_problems)
    answers = CompletionsSpec(
        questions=questions(problems),
        prompt=generation_prompt(config.prompt),
        sampling=sweep.sampling,
        thinking=config.ta.thinking,
        engine=config.engine.name,
        dtype=config.engine.dtype,
        seed=config.seed if sweep.sampling.temperature > 0 else None,
    )
    spec = ProbeSpec(
        merge=_merge_spec(config, None, None),
        problems=problems,
        answers=answers,
        grader=config.evaluation.grader,
        densities=sweep.densities,
        weights=sweep.weights,
        num_seeds=sweep.num_seeds if config.merge.method in DRAWING_METHODS else 1,
        target_length_ratio=target,
        tolerance=None if target is None else sweep.tolerance,
        num_steps=None if target is None else sweep.num_steps,
    )
    suffix = "" if target is None else f"-len{target:g}"
    return Node(
        kind="probes",
        stage="probe",
        name=f"{inputs['tuned'].name}.{config.merge.method}{suffix}",
        spec=spec,
        inputs=inputs,
        door="merge",
        # Calibration is part of the merge that needs it; a grid is a command of its own.
        choose={"probe": "true"} if target is None else {},
    )


def _merge_inputs(config: Config) -> dict[str, Node]:
    """What a merge starts from and what it merges: the TA's own form before SFT is the base, or one of the merged."""
    before, tuned = source(config.ta), model(config, "ta_sft")
    if config.merge.base.path is None:
        return {"base": before, "tuned": tuned}
    return {"base": source(named(config.merge.base)), "tuned": tuned, "instruct": before}


def _merge_spec(config: Config, density: Any, weight: Any) -> MergeSpec:
    """The fields that count: those of the TA before SFT only where it is merged in too."""
    values: dict[str, Any] = {item.name: getattr(config.merge, item.name, None) for item in fields(MergeSpec)}
    if config.merge.base.path is None:
        values |= {"instruct_density": None, "instruct_weight": None}
    return MergeSpec(**values | {"density": density, "weight": weight, "seed": config.seed})


def _label(setting: Any) -> str:
    """A density or weight in a name; ``mixed`` where it is one by module."""
    if not isinstance(setting, list):
        return f"{setting:g}"
    return "mixed" if isinstance(setting[0], dict) else "_".join(f"{value:g}" for value in setting)
