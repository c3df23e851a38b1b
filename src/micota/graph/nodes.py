"""From a config to nodes: data, tuned and merged models, and merges measured in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from micota.config import (
    Config,
    DataConfig,
    ModelConfig,
    PartConfig,
    SelectConfig,
)
from micota.config.models import name_of
from micota.errors import ConfigError
from micota.graph import merge_sweeps, merges, trainings
from micota.graph.models import (
    completions,
    generation_prompt,
    generator_config,
    generator_of,
    likelihood,
    likelihood_of,
    rows,
    select_of,
    source,
    training_prompt,
    training_rows,
)
from micota.graph.node import AnyNode, Node
from micota.graph.specs import (
    DataSpec,
    FilteredSpec,
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
    parts = _parts(config, recipe, choose)
    shared = _shared(config, recipe, select, parts.values())
    if recipe.select_by is None:
        return _data_node(recipe, MixtureSpec(**shared, weights=dict(recipe.weights)), parts, choose)
    inputs = parts | _likelihoods(config, parts, choose)
    return _data_node(recipe, MostLikelySpec(**shared, select_by=recipe.select_by), inputs, choose)


def _parts(config: Config, recipe: DataConfig, choose: dict[str, str]) -> dict[str, AnyNode]:
    """The data of each part of a recipe, by label. The number of examples limits only the recipe as a whole: its parts
    are sampled from all kept examples."""
    pool = replace(select_of(replace(config.select, match="none"), recipe), num_examples=None)
    return {label: _generated(config, part, select_of(pool, part), choose) for label, part in recipe.parts.items()}


def candidates(config: Config) -> dict[str, AnyNode]:
    """The data of each part of the student's recipe, by label, where each round chooses among them."""
    alone = {} if config.select.match == "none" else {"select.match": "none", "select.num_examples": "null"}
    return _parts(config, config.data, {"data": config.data.chosen} | alone)


def _shared_by_candidates(config: Config, parts: Mapping[str, AnyNode]) -> dict[str, Any]:
    """The fields of the data that each round chooses. Matched recipes have their number of examples already."""
    select = select_of(replace(config.select, match="none"), config.data)
    if config.select.match != "none":
        select = replace(select, num_examples=None)
    return _shared(config, config.data, select, parts.values())


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
    # Recipes share the answers of a part that is a recipe itself. One at a merge weight is none: no option names it.
    own = recipe.chosen if isinstance(recipe, DataConfig) else recipe.name
    answers = completions(
        config,
        source(generator) if recipe.generator == "model" else _generator(config, recipe),
        config.problems,
        config.problems.name,
        generator,
        generator.sampling,
        generation_prompt(config.prompt),
        command="generate",
        choose=choose if recipe.merge_weight is not None else {**choose, "data": own},
    )
    spec = FilteredSpec(**_shared(config, recipe, select), decontaminate_against=benches, thinking=generator.thinking)
    return _data_node(recipe, spec, {"completions": answers}, choose)


def _generator(config: Config, recipe: PartConfig) -> AnyNode:
    """The model in a role that generates the data; the merged TA at the weight of the recipe, if it has one."""
    return model(config, recipe.generator) if recipe.merge_weight is None else merged_at(config, recipe.merge_weight)


def merged_at(config: Config, weight: float) -> AnyNode:
    """The TA merged at a weight, whatever that of the merge is."""
    fixed, chosen = merges.at_weight(config, weight)
    made = merged(fixed)
    return replace(made, choose={**made.choose, **chosen})


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
    """The TA tuned on ``ta_data`` (``role="ta"``), or the student tuned on ``data``."""
    return trainings.trained(config, role, MAKERS)


def student_data(config: Config) -> Node[DataSpec]:
    """The data of the student's recipe; of a training in rounds those of the first."""
    return trainings.student_data(config, MAKERS)


def merged(config: Config) -> Node[MergeSpec] | Node[MergekitSpec]:
    """The TA before and after SFT, merged; with a target, calibration chooses the weight."""
    return merges.merged(config, lambda: model(config, "ta_sft"))


def merge_sweep(config: Config) -> Node[MergeSweepSpec]:
    """The merged TA measured at the points of ``merge_sweep``; with a target, at the points of a search.

    Raises:
        ConfigError: mergekit is to merge, which cannot merge in memory, or the engine cannot take weights.
    """
    return merge_sweeps.merge_sweep(config, lambda: model(config, "ta_sft"))


MAKERS = trainings.Makers(
    data=data,
    candidates=candidates,
    shared=_shared_by_candidates,
    model=model,
    merged_at=merged_at,
    generated=_generated,
)
