"""From a config to a merge: its models, its settings, and the sweep that calibrates it."""

from __future__ import annotations

from dataclasses import replace

from micota.config import MERGE_METHODS, Config
from micota.config.mergekit import AFTER, MERGEKIT, NAMES, PRETRAINED, kept, models_in, reference, with_models
from micota.config.models import name_of
from micota.errors import ConfigError
from micota.graph.merge_sweeps import Tuned, label_of, merge_inputs, merge_spec, merge_sweep, wanted
from micota.graph.models import named, source
from micota.graph.node import AnyNode, Node
from micota.graph.specs import MergekitSpec, MergeSpec


def at_weight(config: Config, weight: float) -> tuple[Config, dict[str, str]]:
    """The config with the TA merged at a known weight, and the overrides that choose it.

    Raises:
        ConfigError: the merge has no weight of models.
    """
    method = config.merge.method
    if method == MERGEKIT or not MERGE_METHODS[method].has_weights:
        raise ConfigError(
            f"the TA merged at weight {weight:g} (merge_weight of data, or objective.merge_weights) with "
            f"merge.method={method}, which has no weight of models here; accepted: another method, as dare_ties"
        )
    fixed = replace(config, merge=config.merge.fixed_at(weight))
    chosen = {"merge.weight": f"{weight:g}"}
    for name in ("target_length_ratio", "target", "search"):
        if getattr(config.merge, name) != (known := getattr(fixed.merge, name)):
            chosen[f"merge.{name}"] = known or "null"
    return fixed, chosen


def merged(config: Config, tuned: Tuned) -> Node[MergeSpec] | Node[MergekitSpec]:
    """The TA before and after SFT, merged; with a target length, calibration chooses the weight."""
    merge = config.merge
    if merge.method == MERGEKIT:
        return _merged_by_mergekit(config, tuned)
    inputs = merge_inputs(config, tuned)
    if MERGE_METHODS[merge.method].takes_several and not merge.has_instruct:
        raise ConfigError(
            f"merge.method={merge.method} needs two fine-tuned models and their base, and there is one; accepted: "
            "merge.base.path=PATH of the pre-trained model, beside merge.instruct.path where merge.tuned.path is set"
        )
    if not merge.is_calibrated:
        spec = merge_spec(config, merge.density, merge.weight)
        suffix = f"d{label_of(spec.density)}-w{label_of(spec.weight)}"
    else:
        spec = merge_spec(config, None, None)
        suffix = wanted(config)
        inputs["calibration"] = merge_sweep(config, tuned)
    return Node(
        name=f"{inputs['tuned'].name}.{merge.method}-{suffix}",
        spec=spec,
        inputs=inputs,
        command="merge",
    )


def _merged_by_mergekit(config: Config, tuned: Tuned) -> Node[MergekitSpec]:
    """The merge that ``merge.config`` describes. The model whose tokenizer it keeps is the input ``tuned``."""
    merge, plain = config.merge, {key: value for key, value in config.merge.config.items() if value is not None}
    named_models = models_in(plain, merge.has_instruct)
    keeps = kept(plain, named_models)
    labels = {
        each: "tuned" if each == keeps else each[0] if each[0] in NAMES else f"model{number}"
        for number, each in enumerate(named_models)
    }
    inputs = {label: _input_of(config, each, tuned) for each, label in sorted(labels.items(), key=lambda pair: pair[1])}
    plain.pop("tokenizer_source", None)  # it chose ``tuned``
    name = inputs["tuned"].name
    return Node(
        name=f"{name}.mergekit-{name_of(str(plain['merge_method']))}",
        spec=MergekitSpec(config=with_models(plain, lambda value: labels[reference(value)]), seed=config.seed),
        inputs=inputs,
        command="merge",
    )


def _input_of(config: Config, named_model: tuple[str, str | None], tuned: Tuned) -> AnyNode:
    """The node of a model that ``merge.config`` names."""
    merge, (name, revision) = config.merge, named_model
    if name not in NAMES:
        return source(named(merge.others[f"{name}@{revision}" if revision else name]))
    if name == AFTER:
        return tuned()
    before = merge.instruct if merge.has_instruct else merge.base
    other = merge.base if name == PRETRAINED else before
    return source(config.ta if other.path is None else named(other))
