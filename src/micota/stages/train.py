"""Data and a model -> the model fine-tuned on it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from rich.progress import Progress as Progressbar

from micota.artifacts.store import Store
from micota.config import Config
from micota.console import progress_bar
from micota.errors import ConfigError
from micota.graph import TrainSpec, rounds_of
from micota.graph.node import AnyNode, Node
from micota.graph.teachers import TARGETS, TEACHER, inputs_of
from micota.pretrained import context_of, load_config, rope_border
from micota.records import Example
from micota.runtime.distributed import check_launch, outer_rank, stop
from micota.runtime.inputs import check_device, close_engine, model_location, tokenizer_for
from micota.runtime.launch import launch, run_rank
from micota.runtime.work import Work
from micota.sft import optimizers, quantizing
from micota.sft.callbacks import StoppedError
from micota.sft.data import Inputs
from micota.sft.fit import fit
from micota.sft.packing import fits
from micota.sft.progress import Progress
from micota.sft.sharding import in_this_process
from micota.sft.splits import question_of
from micota.sft.token_table import TokenTable, check_texts
from micota.stages import teachers
from micota.stages.examples import cut, fitting, read_examples

logger = logging.getLogger(__name__)


def check_placement(config: Config, node: Node[TrainSpec]) -> None:
    """Refuse devices that this machine lacks, before anything is made or tracked.

    Raises:
        ConfigError: the text names the key.
    """
    check_devices(config)
    optimizers.check(node.spec.sft, config.trainer)
    quantizing.check(node.spec.sft, config.trainer)
    teachers.check(config, node)


def check_devices(config: Config) -> None:
    """Refuse devices that this machine lacks."""
    trainer = config.trainer
    check_device(trainer.accelerator, "trainer")
    visible = torch.cuda.device_count() if trainer.accelerator == "gpu" else 0
    # A rank of a launcher may see its own GPU alone.
    if trainer.accelerator == "gpu" and visible < trainer.num_devices and (outer_rank() is None or visible != 1):
        raise ConfigError(
            f"trainer.devices={trainer.num_devices}, but PyTorch sees {visible} GPUs here; accepted: at most this "
            "number, or under srun and torchrun one for each process"
        )
    check_launch(config)


def train(work: Work[TrainSpec]) -> None:
    """Fine-tune. A killed run goes on from its last checkpoint and ends with the same weights.

    Raises:
        ConfigError: settings of the trainer exclude each other.
    """
    close_engine()
    with progress_bar(work.console, work.build.path) as bar:
        reporter = Reporter(work, bar)
        if work.config.trainer.world_size > 1 and outer_rank() is None:
            launch(work.config, work.node, work.build, reporter, __name__)
            return
        try:
            fit_here(work, reporter)
        except StoppedError as stopped:
            stop(128 + stopped.signum, str(stopped))


class Reporter:
    """Shows progress on the console, and passes it to the tracker and the log."""

    def __init__(self, work: Work[TrainSpec], bar: Progressbar) -> None:
        self._run = work.run
        self._bar = bar
        self._task = bar.add_task(work.node.name, total=None, note="")
        self._total = 0
        self._before = _steps_of_earlier_rounds(work)  # the steps of a tracked run only rise
        self._accuracies = ""  # of the last evaluation during training

    def begin(self, total: int) -> None:
        self._total = total
        self._bar.update(self._task, total=total)

    def step(self, metrics: Mapping[str, float], step: int) -> None:
        if "train/loss" in metrics:
            tokens = metrics.get("train/answer_tokens")
            length = "" if tokens is None else f", {tokens:.0f} tokens an answer"
            note = f"loss {metrics['train/loss']:.3f}{length}{self._accuracies}"
            self._bar.update(self._task, completed=step, note=note)
        elif accuracies := [f"{name} {value:.3f}" for name, value in metrics.items() if name.endswith("/accuracy")]:
            self._accuracies = ", " + ", ".join(accuracies)
        self._run.log(metrics, step=self._before + step)
        if step % 10 == 0 or step == self._total or "train/loss" not in metrics:
            logger.info("step %d of %d: %s", step, self._total, dict(metrics))


def _steps_of_earlier_rounds(work: Work[TrainSpec]) -> int:
    manifests = [work.store.manifest(node) for node in rounds_of(work.node)[:-1]]
    return sum(manifest.counts["steps"] for manifest in manifests if manifest is not None)


def read_inputs(store: Store, train_node: AnyNode) -> Inputs:
    """Tokenizer, examples and their tokens.

    Raises:
        ConfigError: no example fits.
    """
    spec: TrainSpec = train_node.spec
    location = model_location(store, train_node.inputs["model"])
    tokenizer = tokenizer_for(store, train_node.inputs["model"])
    settings = load_config(*location)
    # A model has no positions beyond its context, or such that it was never trained on.
    longest = min(spec.sft.max_tokens, context_of(settings) or spec.sft.max_tokens)
    examples, uncut = read_examples(store, train_node.inputs["data"], tokenizer, spec.sft, longest)
    tokens = cut(uncut, spec.sft, longest)
    num_cut = sum(before > after for before, after in zip(uncut.lengths, tokens.lengths, strict=True))
    chosen = fitting(tokens, longest, spec.sft.max_tokens)
    num_beyond = len(fits(tokens.lengths, spec.sft.max_tokens)) - len(chosen)
    if num_beyond:
        logger.warning("%d examples are longer than the model's context of %d tokens: dropped", num_beyond, longest)
    check_texts(tokenizer, examples, tokens, chosen)
    inputs = Inputs(tokenizer, location, examples, tokens, chosen, num_cut, num_beyond, rope_border(settings))
    if spec.objective is not None:
        known = cut(uncut, spec.sft, spec.sft.max_tokens)
        every: list[Any] = [model_location(store, teacher) for teacher in inputs_of(train_node, TEACHER)]
        every += [teachers.stored(store, node, known) for node in inputs_of(train_node, TARGETS)]
        inputs = replace(inputs, teachers=every, answer_tokens=answer_tokens(spec))
        context = context_of(settings)
        if inputs.answer_tokens is not None and context is not None and inputs.longest > context:
            raise ConfigError(
                f"objective.sampling.max_tokens={inputs.answer_tokens} and the longest prompt exceed the {context} "
                f"tokens of the model's context; accepted: at most {inputs.answer_tokens - inputs.longest + context}"
            )
    if (node := train_node.inputs.get("validation")) is None:
        return inputs
    examples, tokens = read_examples(store, node, tokenizer, spec.sft, longest)
    validating = fitting(tokens, longest, spec.sft.max_tokens)
    check_texts(tokenizer, examples, tokens, validating)
    return _with_validation(inputs, examples, tokens, validating)


def answer_tokens(spec: TrainSpec) -> int | None:
    """The most tokens of an answer that the student samples; None where it learns on answers of the data."""
    return spec.objective.sampling.max_tokens if spec.objective and spec.objective.sampling else None


def _with_validation(inputs: Inputs, examples: list[Example], tokens: TokenTable, fitting: list[int]) -> Inputs:
    """The inputs with examples for validation after those to train on. None of them is cut, but those that do not fit
    are left out: the loss of a text without its end would not compare."""
    trained = {question_of(inputs.examples[index]) for index in inputs.chosen}
    known = sum(question_of(examples[index]) in trained for index in fitting)
    if known:
        logger.warning("%d of %d validation examples have a prompt that is trained on", known, len(fitting))
    return replace(
        inputs,
        examples=[*inputs.examples, *examples],
        tokens=inputs.tokens.with_rows_of(tokens),
        num_validation=len(examples),
        validation=[len(inputs.examples) + index for index in fitting],
    )


def fit_here(work: Work[TrainSpec], progress: Progress) -> None:
    """Train in this process (one rank of a distributed run) and export the model."""
    inputs = read_inputs(work.store, work.node)
    with in_this_process(work.config.trainer):
        fitted = fit(work.config, work.node, inputs, work.build.path, progress, writes=not outer_rank())
    work.build.counts |= {"examples": fitted.examples, "steps": fitted.steps}
    num_read = len(inputs.examples) - inputs.num_validation
    work.build.counts["dropped_too_long"] = num_read - len(inputs.chosen) - inputs.num_past_end
    if inputs.num_past_end:
        work.build.counts["dropped_past_end"] = inputs.num_past_end
    if inputs.num_beyond_context:
        work.build.counts["dropped_beyond_context"] = inputs.num_beyond_context
    work.build.counts |= {"cut_too_long": inputs.num_cut} if inputs.num_cut else {}
    work.build.metrics["loss"] = fitted.loss
    work.build.metrics |= {f"flops_{name}": count for name, count in fitted.flops.items()}
    if fitted.validation:
        work.build.counts["validation_examples"] = fitted.validation_examples
        work.build.metrics |= {name.replace("/", "_"): value for name, value in fitted.validation.items()}
    if fitted.best_step is not None:
        work.build.counts["best_step"] = fitted.best_step


if __name__ == "__main__":  # one rank of several, started by launch
    run_rank(fit_here)
