"""From a config to nodes: data, tuned and merged models, and merges measured in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from micota.config import (
    Config,
    DataConfig,
    ModelConfig,
    PartConfig,
    SelectConfig,
)
from micota.config.models import name_of
from micota.config.rows import RowsConfig
from micota.errors import ConfigError
from micota.graph import merge_sweeps, merges
from micota.graph.models import (
    completions,
    generation_prompt,
    generator_config,
    generator_of,
    likelihood,
    likelihood_of,
    named,
    rows,
    select_of,
    source,
    sources_of,
    train_spec,
    training_prompt,
    training_rows,
)
from micota.graph.node import AnyNode, Node
from micota.graph.objectives import distillation
from micota.graph.specs import (
    DataSpec,
    FilteredSpec,
    LikelihoodSpec,
    MatchedSpec,
    MergekitSpec,
    MergeSpec,
    MergeSweepSpec,
    MixtureSpec,
    MostLikelySpec,
    RowsSpec,
    TrainSpec,
    needs_no_model,
)


def data(config: Config, recipe: DataConfig, *, matched: bool = True) -> Node[DataSpec]:
    """The training data of one recipe; ``matched=False`` does not match them with other recipes.

    Raises:
        ConfigError: the recipe has no data (the student before SFT), or cannot be matched with others.
    """
    if recipe.is_untuned:
        what = "released checkpoints" if recipe.released else "the student before SFT"
        raise ConfigError(f"data={recipe.name} is {what}: it has no training data; accepted: another recipe")
    choose = {"data": recipe.chosen}
    if config.select.match != "none":
        if matched:
            return _matched(config, recipe)
        choose["select.match"] = "none"
    select = select_of(replace(config.select, match="none"), recipe)
    if not recipe.parts:
        return _generated(config, recipe, select, choose)
    # The number of examples limits only the mixture as a whole: its parts are sampled from all kept examples.
    pool = replace(select, num_examples=None)
    parts = {label: _generated(config, part, select_of(pool, part), choose) for label, part in recipe.parts.items()}
    shared = _shared(config, recipe, select, parts.values())
    if recipe.select_by is None:
        return _data_node(recipe, MixtureSpec(**shared, weights=dict(recipe.weights)), parts, choose)
    inputs = parts | _likelihoods(config, parts, choose)
    return _data_node(recipe, MostLikelySpec(**shared, select_by=recipe.select_by), inputs, choose)


def _likelihoods(config: Config, parts: Mapping[str, AnyNode], choose: dict[str, str]) -> dict[str, AnyNode]:
    """The likelihoods of the candidates under the student before SFT."""
    return {likelihood_of(label): likelihood(config, part, "generate", choose) for label, part in parts.items()}


def _matched(config: Config, recipe: DataConfig) -> Node[DataSpec]:
    """The data of a recipe, chosen together with those of all recipes of the comparison."""
    match = config.select.match
    wanted = recipe.settled()
    compared_as = next((label for label, other in config.compared.items() if other.settled() == wanted), None)
    if compared_as is None:
        raise ConfigError(
            f"select.match={match} makes the recipes of compare.recipes alike ({', '.join(config.compared)}), and "
            f"data={recipe.name} is none of them; add it there, or use select.match=none"
        )
    pool = replace(config.select, match="none", num_examples=None)
    pools: dict[str, AnyNode] = {}
    likelihoods: dict[str, AnyNode] = {}
    compared: dict[str, dict[str, float]] = {}
    for name, other in config.compared.items():
        if other.parts and other.select.num_examples is not None:
            raise ConfigError(
                f"select.match={match} with data.select.num_examples={other.select.num_examples} of {name}; accepted: "
                "select.num_examples, the size of every matched recipe"
            )
        choose = {"data": other.chosen, "select.match": "none", "select.num_examples": "null"}
        compared[name] = {}
        parts: dict[str, AnyNode] = {}
        for label, part in (other.parts or {other.name: other}).items():
            select = select_of(replace(select_of(pool, other), num_examples=None), part)
            node = _generated(config, part, select, choose)
            if pools.setdefault(part.name, node).key != node.key:
                raise ConfigError(
                    f"select.match={match}: two generators of compare.recipes are called {part.name}, and differ in "
                    "their model or in their select; rename one"
                )
            parts[part.name] = pools[part.name]
            compared[name][part.name] = other.weights.get(label, 0.0) if other.parts else 1.0
            _check_one_each(config, part, select)
        if other.select_by is not None:
            likelihoods |= _likelihoods(config, parts, choose)
    spec = MatchedSpec(
        **_shared(config, recipe, config.select, pools.values()),
        compared=compared,
        select_by={name: other.select_by for name, other in config.compared.items() if other.select_by is not None},
        compared_as=compared_as,
    )
    return _data_node(recipe, spec, pools | likelihoods, {"data": recipe.chosen})


def _check_one_each(config: Config, part: PartConfig, select: SelectConfig) -> None:
    """With several examples a problem, recipes on the same problems would have more of one problem than of another."""
    several = part.path is None and generator_of(config, part).sampling.num_samples > 1
    if several and config.select.match == "problems" and select.keep_sample == "all":
        raise ConfigError(
            f"select.match=problems with several samples a problem ({part.name}) and select.keep_sample=all; accepted: "
            "select.keep_sample=shortest, median or nearest"
        )


def _generated(config: Config, recipe: PartConfig, select: SelectConfig, choose: dict[str, str]) -> Node[DataSpec]:
    """The completions of one generator that filters keep, or rows at a path."""
    against = config.decontaminate_against if select.decontaminate != "none" else {}
    benches = {name: rows(bench) for name, bench in against.items()}
    if recipe.path is not None:
        read = RowsSpec(
            **_shared(config, recipe, select, []),
            rows=training_rows(recipe),
            tokenizer=source(config.student).spec,
            decontaminate_against=benches,
        )
        return _data_node(recipe, read, {}, choose)
    generator = generator_of(config, recipe)
    answers = completions(
        config,
        source(generator) if recipe.generator == "model" else _generator(config, recipe),
        config.problems,
        config.problems.name,
        generator,
        generator.sampling,
        generation_prompt(config.prompt),
        command="generate",
        choose={**choose, "data": recipe.chosen if isinstance(recipe, DataConfig) else recipe.name},
    )
    spec = FilteredSpec(**_shared(config, recipe, select), decontaminate_against=benches, thinking=generator.thinking)
    return _data_node(recipe, spec, {"completions": answers}, choose)


def _generator(config: Config, recipe: PartConfig) -> AnyNode:
    """The model in a role that generates the data; the merged TA at the weight of the recipe, if it has one."""
    if recipe.merge_weight is None:
        return model(config, recipe.generator)
    merge = replace(config.merge, weight=recipe.merge_weight, target_length_ratio=None)
    made = model(replace(config, merge=merge), recipe.generator)
    return replace(made, choose={**made.choose, "merge.weight": f"{recipe.merge_weight:g}"})


def _shared(
    config: Config, recipe: PartConfig, select: SelectConfig, parts: Iterable[AnyNode] | None = None
) -> dict[str, Any]:
    """The fields that all specs of data have. Data whose ``parts`` all come from elsewhere need no problems."""
    needs_problems = parts is None or not all(needs_no_model(part) for part in parts)
    return {
        "recipe": recipe.name,
        "problems": rows(config.problems) if needs_problems else None,
        "prompt": training_prompt(config.prompt),
        "select": select.settled(),
        "seed": config.seed,
    }


def _data_node(
    recipe: PartConfig, spec: DataSpec, inputs: Mapping[str, AnyNode], choose: dict[str, str]
) -> Node[DataSpec]:
    return Node(name=recipe.name, spec=spec, inputs=inputs, command="generate", choose=choose)


def model(config: Config, role: str) -> AnyNode:
    """The model in a role: ``teacher``, ``ta``, ``ta_sft``, ``ta_merged``, ``long_generator``, ``short_generator``,
    ``large``, ``small``, or ``student`` (tuned on ``config.data``, or the student before SFT if that recipe has no
    data)."""
    if role == "ta_sft" and config.merge.tuned.path is None:
        return trained(config, "ta")
    if role == "ta_merged":
        return merged(config)
    if role == "student" and config.data.released:
        checkpoint = released(config)
        return replace(source(checkpoint), runs=checkpoint)  # no role of the config has it, so a plan finds it here
    if role == "student" and not config.data.is_untuned:
        return trained(config, "student")
    return source(generator_config(config, role))


def released(config: Config) -> ModelConfig:
    """The published checkpoint that stands for the student tuned on the recipe, with the settings of the student.

    Raises:
        ConfigError: there is none of this student.
    """
    recipe, student = config.data, config.student
    if not recipe.covers(student):
        raise ConfigError(
            f"data={recipe.name} has no released checkpoint of {student.path} (student={student.name}); accepted: "
            f"{', '.join(recipe.released)}"
        )
    checkpoint = recipe.released[student.path]
    return replace(
        student,
        name=name_of(checkpoint.path),
        path=checkpoint.path,
        revision=checkpoint.revision,
        fingerprint=checkpoint.fingerprint,
    )


def trained(config: Config, role: str) -> Node[TrainSpec]:
    """The TA tuned on ``ta_data`` (``role="ta"``), or the student tuned on ``data``.

    Raises:
        ConfigError: the recipe has no data, or the model no training settings.
    """
    base, recipe = (config.ta, config.ta_data) if role == "ta" else (config.student, config.data)
    if base.sft is None:
        raise ConfigError(f"{role}={base.name} has no training settings; add {role}.sft to its YAML")
    objective = distillation(config.objective) if role != "ta" else None
    examples = data(config, recipe, matched=role != "ta")
    choose = {"role": role} if role == "ta" else {"data": recipe.chosen}
    inputs: dict[str, AnyNode] = {"model": source(base), "data": examples}
    if base.sft.validation.path is not None:
        inputs["validation"] = _validation(config, base.sft.validation, choose)
    if objective is not None:
        inputs["teacher"] = _teacher(config)
    suffix = "" if objective is None else f".{objective.name}"
    return Node(
        name=f"{base.name}+{recipe.name}{suffix}",
        spec=replace(train_spec(config, base, base.sft.settled(generators_of(examples))), objective=objective),
        inputs=inputs,
        command="train",
        choose=choose,
        runs=base,
    )


def _teacher(config: Config) -> AnyNode:
    """The model whose probabilities the student learns.

    Raises:
        ConfigError: the objective names no model.
    """
    objective = config.objective
    if objective.teacher != "model":
        return model(config, objective.teacher)
    if objective.model.path is None:
        raise ConfigError(
            "objective.teacher=model, and objective.model.path is null; accepted: objective.teacher=PATH, or an "
            "option, as model@objective.model=qwen7b"
        )
    return source(named(objective.model))


def _validation(config: Config, read: RowsConfig, choose: dict[str, str]) -> Node[DataSpec]:
    """Rows for validation: filtered as training rows are, all of them, and compared with no benchmark."""
    assert read.path is not None
    recipe = PartConfig(name=name_of(read.path), **{item.name: getattr(read, item.name) for item in fields(RowsConfig)})
    select = replace(config.select, match="none", num_examples=None, decontaminate="none")
    return replace(_generated(config, recipe, select, choose), command="train")


def generators_of(examples: Node[DataSpec]) -> set[str]:
    """The paths of the models that generated training data, and of those that a generator was tuned on or merged
    from."""
    inputs = examples.inputs
    if isinstance(examples.spec, MatchedSpec):  # it has the inputs of all recipes that are matched with it
        inputs = {label: inputs[label] for label in examples.spec.compared[examples.spec.compared_as]}
    generated = [child for child in inputs.values() if not isinstance(child.spec, LikelihoodSpec)]
    return {path for child in generated for path in sources_of(child)}


def merged(config: Config) -> Node[MergeSpec] | Node[MergekitSpec]:
    """The TA before and after SFT, merged; with a target, calibration chooses the weight."""
    return merges.merged(config, lambda: model(config, "ta_sft"))


def merge_sweep(config: Config) -> Node[MergeSweepSpec]:
    """The merged TA measured at the points of ``merge_sweep``; with a target, at the points of a search.

    Raises:
        ConfigError: mergekit is to merge, which cannot merge in memory, or the engine cannot take weights.
    """
    return merge_sweeps.merge_sweep(config, lambda: model(config, "ta_sft"))
