"""What a training run would learn and need, found out without weights: the findings of ``micota doctor``."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from micota.config import TrainerConfig
from micota.data.prompts import prefilled, render
from micota.data.round_trip import check_round_trip
from micota.data.turns import end_of_turn
from micota.errors import UserError
from micota.export import settle
from micota.graph import TrainSpec
from micota.model_files import Location
from micota.pretrained import context_of, load_config, rope_border
from micota.records import Example
from micota.sft import agreement, attention, context_parallel, fitting, lora, memory, optimizers, quantizing
from micota.sft.data import Inputs, SftDataModule
from micota.sft.freezing import freeze
from micota.sft.loading import DTYPES, device_of, export_dtype, skeleton
from micota.sft.packing import Tokens, tokenise
from micota.sft.shape import Shape

OK, UNKNOWN, REFUSED = "ok", "unknown", "refused"
UNLIMITED = 2**62  # bytes of a device of unknown size: no kind of checkpointing is needed


@dataclass
class Finding:
    """One finding: ``ok``, ``unknown`` where it cannot be found out here, or ``refused``, with the error that training
    would end in. ``values`` has its numbers for other programs."""

    name: str
    status: str = OK
    text: str = ""
    values: dict[str, Any] = field(default_factory=dict)


class Preflight:
    """The findings of one run, in order."""

    def __init__(self, naming: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        """``naming`` adds the keys of the command to user errors, where they lack them."""
        self.findings: list[Finding] = []
        self._naming = naming

    @property
    def is_ready(self) -> bool:
        """Whether nothing is refused."""
        return all(finding.status != REFUSED for finding in self.findings)

    @contextmanager
    def finding(self, name: str) -> Iterator[Finding]:
        """Collect one finding; a user error within makes it ``refused``, and the next ones follow all the same."""
        found = Finding(name)
        self.findings.append(found)
        try:
            with self._naming():
                yield found
        except UserError as error:
            found.status, found.text = REFUSED, str(error)


def sample_of(tokenizer: Any, messages: list[dict[str, str]], question: str) -> Example:
    """A made-up example for a run without data, with a thought where the chat template opens one."""
    tag = prefilled(render(tokenizer, messages)).strip()
    thought = f"{tag}\n{question}\n{tag.replace('<', '</')}\n\n" if tag else ""
    return Example(problem_id="sample", messages=messages, completion=f"{thought}2", num_tokens=0, source="sample")


def find_tokens(report: Preflight, tokenizer: Any, example: Example) -> Tokens | None:
    """Find out about the template, the end of a turn and the texts of an example; returns its tokens."""
    tokens = None
    with report.finding("template") as found:
        tokens = tokenise(tokenizer, example)
        found.text = f"every message stands in it; {len(tokens.ids)} tokens, {tokens.num_supervised} learnt"
        found.values = {"tokens": len(tokens.ids), "supervised": tokens.num_supervised}
    with report.finding("end of turn") as found:
        end = end_of_turn(tokenizer)
        found.values = {"text": end.text, "id": end.id, "from_template": end.from_template}
        found.values["eos_token"] = tokenizer.eos_token
        where = "of the chat template" if end.from_template else "the tokenizer's eos, as the template marks no end"
        found.text = f"{end.text!r} (id {end.id}), {where}"
        if end.id != tokenizer.eos_token_id:
            found.text += f"; the tokenizer's eos is {tokenizer.eos_token!r}, and the export ends at both"
    with report.finding("texts") as found:
        check_round_trip(tokenizer, [*(turn["content"] for turn in example.messages), example.completion])
        found.text = "the tokenizer gives them back unchanged"
    return tokens


def find_data(report: Preflight, inputs: Inputs, spec: TrainSpec, trainer: TrainerConfig) -> None:
    """Find out about the examples and the steps."""
    with report.finding("examples") as found:
        trained = len(inputs.examples) - inputs.num_validation  # those for validation alone stand after them
        lengths = inputs.tokens.lengths[:trained]
        used = [lengths[index] for index in inputs.chosen]
        too_long = len(lengths) - len(used) - inputs.num_beyond_context
        found.values = {
            "examples": len(lengths), "used": len(used), "problems": len(set(inputs.problems[:trained])),
            "dropped_too_long": too_long, "dropped_beyond_context": inputs.num_beyond_context, "cut": inputs.num_cut,
            "tokens": sum(used), "median_tokens": int(statistics.median(used)), "longest_tokens": max(used),
            "supervised_tokens": sum(inputs.tokens[index].num_supervised for index in inputs.chosen),
        }  # fmt: skip
        found.text = (
            f"{len(used)} of {len(lengths)} used; {too_long} longer than sft.max_tokens={spec.sft.max_tokens} dropped, "
            f"{inputs.num_beyond_context} longer than the model's context dropped, {inputs.num_cut} cut; "
            f"median {found.values['median_tokens']} tokens, longest {max(used)}"
        )
    with report.finding("steps") as found:
        data = SftDataModule(
            inputs.tokens, spec.sft, trainer, spec.seed, inputs.chosen, inputs.problems, inputs.border,
            inputs.validation,
        )  # fmt: skip
        validation = [index for step in data.validation_steps for index in step]
        problems = len({inputs.problems[index] for index in validation})
        found.values = {"steps": len(data.steps), "validation_examples": len(validation)}
        found.text = f"{len(data.steps)} optimiser steps of {spec.sft.batch_size}"
        if validation:
            found.text += f"; {len(validation)} examples of {problems} problems validate"


@dataclass
class Run:
    """What the findings about a run's model and machine depend on.

    ``longest`` is the number of tokens of the longest example, ``folder`` that of the artifacts, ``capacity`` the bytes
    of a device (None where they are not known). ``sizes`` is the shape of the model by its config here, for a model
    whose files cannot be read.
    """

    location: Location
    spec: TrainSpec
    trainer: TrainerConfig
    tokenizer: Any
    longest: int
    folder: Path
    capacity: int | None
    sizes: Shape | None = None


def find_model(report: Preflight, run: Run) -> None:
    """Find out about the loss, the memory, the disk and the export."""
    settings: Any = None
    written = DTYPES[run.spec.precision]
    with report.finding("model") as found:
        settings = load_config(*run.location)
        written = export_dtype(run.spec, *run.location, settings)
        context, border = context_of(settings), rope_border(settings)
        found.values = {"type": settings.model_type, "context": context, "longrope_border": border}
        found.text = f"{settings.model_type}, context of {context} tokens"
        found.text += f"; lengths up to {border} and above are not mixed in a batch (longrope)" if border else ""
    shape = run.sizes
    if settings is not None:
        kernel = find_loss(report, run, settings)
        with report.finding("export") as found:
            model = skeleton(*run.location, settings, DTYPES[run.spec.precision], attention.implementation(kernel))
            if run.tokenizer is not None:
                settle(settings, model.generation_config, run.tokenizer)
                eos = model.generation_config.eos_token_id
                found.values = {"eos_token_id": eos if isinstance(eos, list) else [eos]}
                words = run.tokenizer.convert_ids_to_tokens(found.values["eos_token_id"])
                found.text = f"{written}; generation ends at {', '.join(map(repr, words))}".removeprefix("torch.")
            if run.spec.sft.lora is not None:
                lora.adapt(model, run.spec.sft.lora, run.spec.seed)
            if run.trainer.quantize != "none":
                found.text += f"; adapters are added to the weights of the files, not to {run.trainer.quantize}"
            freeze(model, run.spec.sft.freeze)
            shape = Shape.of(model).trained_by(run.spec.sft)
    if shape is not None:
        with report.finding("memory") as found:
            optimizers.check(run.spec.sft, run.trainer)
            quantizing.check(run.spec.sft, run.trainer)
            find_memory(found, shape, run)
        with report.finding("disk") as found:
            free = shutil.disk_usage(_existing(run.folder)).free
            keeps_best = run.spec.sft.best.by != "none"
            needed = fitting.disk_bytes(shape, run.trainer, written.itemsize, keeps_best=keeps_best)
            found.values = {"needed_bytes": needed, "free_bytes": free}
            found.text = f"checkpoints and export need {fitting.gib(needed)} GiB, {fitting.gib(free)} GiB are free"
            fitting.check_disk(run.folder, shape, run.trainer, free, written.itemsize, keeps_best=keeps_best)


def find_loss(report: Preflight, run: Run, settings: Any) -> str:
    """Find out whether the loss is that of transformers' logits; returns the attention kernel."""
    kernel = "eager"
    with report.finding("loss") as found:
        kernel = attention.choose(run.trainer.attention, device_of(run.trainer), settings, run.spec.precision)
        context_parallel.check(settings, kernel, run.trainer)
        compared = agreement.compare(settings, kernel)
        found.values = {"attention": kernel, "loss": compared.loss, "expected": compared.expected}
        found.text = f"equals that of transformers' logits on a small model; attention {kernel}"
        if compared.expected is None:
            found.status = UNKNOWN
            found.text = f"not compared with transformers' logits ({compared.failure}); attention {kernel}"
        elif compared.problem is not None:
            agreement.check(settings, kernel)
    return kernel


def find_memory(found: Finding, shape: Shape, run: Run) -> None:
    """Estimate the memory of a device.

    Raises:
        ConfigError: it is more than there is.
    """
    limits = memory.most_tokens(shape, run.trainer, run.longest, run.capacity or UNLIMITED)
    trainer = run.trainer
    if run.capacity is not None:
        reduction = memory.gradient_reduction(shape, trainer, run.longest, limits, run.capacity)
        trainer = replace(trainer, gradient_reduction=reduction)
    parts = memory.memory_bytes(shape, trainer, run.longest, limits)
    total = sum(parts.values())
    found.values = {"parts": parts, "total_bytes": total, "available_bytes": run.capacity, "trained": shape.trained}
    listing = ", ".join(f"{name} {fitting.gib(count)}" for name, count in parts.items() if count)
    there = "unknown" if run.capacity is None else f"{fitting.gib(run.capacity)} GiB"
    found.text = f"{fitting.gib(total)} GiB a device ({listing}); available: {there}"
    if run.capacity is None:
        found.status = UNKNOWN
    else:
        fitting.check_memory(shape, run.spec.sft, run.trainer, run.longest, limits, run.capacity)


def _existing(folder: Path) -> Path:
    """The first of a folder and those above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
