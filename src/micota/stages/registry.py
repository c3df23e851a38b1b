"""One record for each kind of node. A new stage needs a spec, a record here, and the file that runs it."""

from __future__ import annotations

from typing import Any

from micota.graph import (
    CompletionsSpec,
    DeterminismSpec,
    ForecastSpec,
    LikelihoodSpec,
    MergekitSpec,
    MergeSpec,
    MergeSweepSpec,
    RankShiftSpec,
    ScoresSpec,
    SourceSpec,
    TrainSpec,
)
from micota.graph.node import AnyNode, Node
from micota.graph.specs import DATA_SPECS
from micota.graph.stage import Counts, Stage, register
from micota.graph.teachers import TargetsSpec


def _describe_source(node: Node[SourceSpec], counts: Counts) -> str:
    spec = node.spec
    return f"{spec.path}@{spec.revision}" if spec.revision else spec.path


def _describe_completions(node: Node[CompletionsSpec], counts: Counts) -> str:
    spec, sampling = node.spec, node.spec.sampling
    decoding = "greedy" if sampling.temperature == 0 else f"temperature {sampling.temperature:g}"
    samples = f", {sampling.num_samples} samples each" if sampling.num_samples > 1 else ""
    answers = f"{counts['requested']} answers" if "requested" in counts else "answers"
    return f"{answers}, {decoding}{samples}, at most {sampling.max_tokens} tokens, {spec.engine} {spec.dtype}"


def _describe_data(node: AnyNode, counts: Counts) -> str:
    kept = f"{counts['examples']} examples" if "examples" in counts else "examples"
    return f"{kept}, {node.spec.how}"


def _describe_training(node: Node[TrainSpec], counts: Counts) -> str:
    sft = node.spec.sft
    tuned = "full fine-tuning" if sft.lora is None else "LoRA"
    steps = f", {counts['steps']} steps" if "steps" in counts else ""
    epochs = "" if sft.max_steps is not None else f", epochs {sft.epochs:g}"
    steps = steps or (f", {sft.max_steps} steps" if sft.max_steps is not None else "")
    batch = f"{sft.batch_size} {sft.batch_of}"
    return f"{tuned}, learning rate {sft.learning_rate:g}, batch of {batch}{epochs}{steps}"


def _describe_merge(node: Node[MergeSpec], counts: Counts) -> str:
    return f"{node.spec.method}, density {_setting(node.spec.density)}, weight {_setting(node.spec.weight)}"


def _setting(value: Any) -> str:
    """The text of a number, of numbers by module, or of a number that calibration chooses."""
    if value is None:
        return "chosen by calibration"
    return f"{value:g}" if isinstance(value, int | float) else "by module"


def _describe_sweep(node: Node[MergeSweepSpec], counts: Counts) -> str:
    merges = f"{counts['points']} merges" if "points" in counts else "merges"
    return f"{merges} by {node.spec.merge.method}, measured in memory on {node.spec.problems.limit} problems"


def _describe_scores(node: Node[ScoresSpec], counts: Counts) -> str:
    right = f": {counts.get('correct', 0)} of {counts['scores']} correct" if "scores" in counts else ""
    return f"graded by {node.spec.grader}{right}"


def _describe_likelihood(node: Node[LikelihoodSpec], counts: Counts) -> str:
    bits = f": {counts['bits_per_byte']:.3f} bits per byte" if "bits_per_byte" in counts else ""
    return f"likelihood of the data{bits}"


def _describe_targets(node: Node[TargetsSpec], counts: Counts) -> str:
    return f"log-probabilities of {node.inputs['model'].name} at the data, of its {node.spec.top_k} most likely tokens"


def _headline_merge(node: AnyNode, counts: Counts) -> str:
    if not counts["task_vector_norm"]:  # of one model, or of equal ones
        return f"the merged task vector has the length {counts['merged_vector_norm']:.3g}"
    ratio = counts["merged_vector_norm"] / counts["task_vector_norm"]
    return f"the merged task vector is {ratio:.2f} times as long"


def _add(**record: Any) -> None:
    register(Stage(module=__name__, **record))


_add(
    name="source",
    specs=(SourceSpec,),
    label="model",
    section="model",
    describe=_describe_source,
)
_add(
    name="generate",
    specs=(CompletionsSpec,),
    run="micota.stages.generate:generate",
    inspect="micota.stages.inspection:completions",
    check="micota.stages.thought_limit:check",
    estimate="micota.costs.stages:generate",
    runs_engine=True,
    label="answers",
    section="generation",
    describe=_describe_completions,
    headline=lambda node, counts: f"{counts['requested']} answers",
)
_add(
    name="select",
    specs=DATA_SPECS,
    run="micota.stages.select:select",
    inspect="micota.stages.inspection:data",
    estimate="micota.costs.stages:select",
    label="data",
    section="data",
    describe=_describe_data,
    headline=lambda node, counts: f"{counts['examples']} examples, {counts['num_tokens']:.0f} tokens each",
)
_add(
    name="train",
    specs=(TrainSpec,),
    run="micota.stages.train:train",
    inspect="micota.stages.inspection:training",
    estimate="micota.costs.stages:train",
    check="micota.stages.train:check_placement",
    has_ranks=True,
    label="training",
    section="train",
    describe=_describe_training,
    headline=lambda node, counts: f"loss {counts['loss']:.3f}, {counts['steps']} steps",
)
_add(
    name="merge",
    specs=(MergeSpec,),
    run="micota.stages.merge:merge",
    estimate="micota.costs.stages:merge",
    check="micota.stages.merge:check",
    label="merge",
    section="merge",
    describe=_describe_merge,
    headline=_headline_merge,
)
_add(
    name="mergekit",
    specs=(MergekitSpec,),
    run="micota.stages.mergekit:mergekit",
    estimate="micota.costs.stages:merge",
    check="micota.stages.mergekit:check",
    label="merge",
    section="merge",
    describe=lambda node, counts: f"merged by {node.spec.method}",
    headline=_headline_merge,
)
_add(
    name="merge_sweep",
    specs=(MergeSweepSpec,),
    run="micota.stages.merge_sweep:merge_sweep",
    estimate="micota.costs.sweeps:merge_sweep",
    check="micota.stages.merge_sweep:check",
    check_config="micota.graph.merge_sweeps:check_engine",
    runs_engine=True,
    label="merge sweep",
    section="merge_sweep",
    describe=_describe_sweep,
    headline=lambda node, counts: f"{counts['points']} merges measured",
)
_add(
    name="grade",
    specs=(ScoresSpec,),
    run="micota.stages.grade:grade",
    inspect="micota.stages.inspection:scores",
    estimate="micota.costs.stages:grade",
    check="micota.stages.grade:check",
    label="scores",
    section="eval",
    describe=_describe_scores,
    headline=lambda node, counts: f"{node.benchmark} {100 * counts['accuracy']:.1f} %",
)
_add(
    name="likelihood",
    specs=(LikelihoodSpec,),
    run="micota.stages.likelihood:likelihood",
    estimate="micota.costs.stages:likelihood",
    runs_forward=True,
    label="BPC",
    section="bpc",
    describe=_describe_likelihood,
    headline=lambda node, counts: f"BPC {counts['bits_per_byte']:.3f}",
)
_add(
    name="targets",
    specs=(TargetsSpec,),
    run="micota.stages.targets:targets",
    estimate="micota.costs.targets:targets",
    runs_forward=True,
    label="teacher's probabilities",
    section="targets",
    describe=_describe_targets,
    headline=lambda node, counts: f"{counts['tokens']} tokens, the {counts['top_k']} most likely at each",
)
_add(
    name="rank_shift",
    specs=(RankShiftSpec,),
    run="micota.stages.rank_shift:rank_shift",
    estimate="micota.costs.stages:rank_shift",
    runs_forward=True,
    label="rank shift",
    section="rank_shift",
    describe=lambda node, counts: "token ranks of the answers before tuning",
    headline=lambda node, counts: f"{node.benchmark} {100 * counts['share_shifted']:.1f} % of tokens shifted",
)
_add(
    name="forecast",
    specs=(ForecastSpec,),
    run="micota.stages.forecast:forecast",
    label="forecast",
    section="forecast",
    describe=lambda node, counts: f"expected gains from {', '.join(node.spec.recipes)}, before training",
    headline=lambda node, counts: f"from {counts['outcomes']} trainings of {counts['students']} students",
)
_add(
    name="determinism",
    specs=(DeterminismSpec,),
    run="micota.stages.determinism:determinism",
    inspect="micota.stages.inspection:repetitions",
    estimate="micota.costs.stages:determinism",
    runs_engine=True,
    label="determinism",
    section="determinism",
    describe=lambda node, counts: f"the first {node.spec.problems.limit} problems answered again and again",
    headline=lambda node, counts: f"{node.benchmark} {100 * counts['share_answers']:.1f} % of answers differ",
)
