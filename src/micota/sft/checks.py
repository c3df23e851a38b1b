"""The checks of a run that need no weights: one list, for training (:mod:`micota.sft.loading`) and for ``micota
doctor`` (:mod:`micota.sft.preflight`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from micota.config import TrainerConfig
from micota.errors import ConfigError
from micota.export import rehearse, settle
from micota.graph import TrainSpec
from micota.model_files import Location
from micota.pretrained import context_of, load_config, rope_border
from micota.sft import (
    agreement,
    attention,
    context_parallel,
    data,
    fitting,
    fused,
    lora,
    losses,
    memory,
    optimizers,
    quantizing,
)
from micota.sft.data import Inputs
from micota.sft.freezing import freeze
from micota.sft.shape import Shape
from micota.sft.skeletons import DTYPES, device_of, export_dtype, shape_at, skeleton

UNLIMITED = 2**62  # bytes of a device of unknown size: no kind of checkpointing is needed


@dataclass
class Run:
    """A run before its weights are read.

    ``longest`` is the number of tokens of the longest example, ``folder`` is on the disk of the artifacts, ``capacity``
    the bytes of a device (None where they are not known). The export is rehearsed in the folder ``rehearsal``, None:
    by another rank. ``inputs`` is None for data that is not made yet. ``sizes`` is the shape of the model by its config
    here, for a model whose files cannot be read (``is_readable``). A student that samples answers does so
    ``answer_rows`` at a time.
    """

    location: Location
    spec: TrainSpec
    trainer: TrainerConfig
    longest: int
    folder: Path
    capacity: int | None
    tokenizer: Any = None
    rehearsal: Path | None = None
    teacher: Location | None = None
    inputs: Inputs | None = None
    sizes: Shape | None = None
    is_readable: bool = True
    answer_rows: int = 0

    @cached_property
    def settings(self) -> Any:
        """transformers' config of the model."""
        return load_config(*self.location)

    @cached_property
    def kernel(self) -> str:
        return self.kernel_for(self.settings)

    def kernel_for(self, settings: Any) -> str:
        """The attention kernel of a model.

        Raises:
            ConfigError: it cannot be used.
        """
        kernel = attention.choose(self.trainer.attention, device_of(self.trainer), settings, self.spec.precision)
        context_parallel.check(settings, kernel, self.trainer)
        return kernel

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights in training."""
        return DTYPES[self.spec.precision]

    @cached_property
    def written(self) -> torch.dtype:
        """The dtype of the export."""
        return export_dtype(self.spec, *self.location, self.settings) if self.is_readable else self.dtype

    def plain_model(self) -> Any:
        """The model without weights, and without adapters."""
        assert self.written  # before a model changes the dtype of its config
        try:
            kernel = self.kernel
        except ConfigError:  # the check "kernels" or "loss" reports it
            kernel = "eager"
        return skeleton(*self.location, self.settings, self.dtype, attention.implementation(kernel))

    @cached_property
    def _adapted(self) -> tuple[Any, Any | None]:
        model = self.plain_model()
        adapted = None if self.spec.sft.lora is None else lora.adapt(model, self.spec.sft.lora, self.spec.seed)
        freeze(model, self.spec.sft.freeze)
        return model, adapted

    @property
    def model(self) -> Any:
        """The model without weights, with adapters if they are trained, and what is frozen frozen."""
        return self._adapted[0]

    @property
    def adapted(self) -> Any | None:
        """peft's model around it, if adapters are trained."""
        return self._adapted[1]

    @cached_property
    def shape(self) -> Shape:
        if not self.is_readable:
            assert self.sizes is not None
            shape = self.sizes
        else:
            shape = Shape.of(self.model).trained_by(self.spec.sft)
        if self.spec.objective is None:
            return shape
        prompt = 0 if self.inputs is None else self.inputs.longest_prompt
        teacher = None if self.teacher is None else shape_at(self.teacher)
        return shape.taught_by(teacher, self.spec.objective, self.answer_rows, prompt)

    @cached_property
    def limits(self) -> dict[str, int]:
        """The largest micro-batch of each kind of activation checkpointing."""
        return memory.most_tokens(self.shape, self.trainer, self.longest, self.capacity or UNLIMITED)

    @cached_property
    def reducing(self) -> TrainerConfig:
        """The trainer with the moment at which gradients are summed."""
        if self.capacity is None:
            return self.trainer
        reduction = memory.gradient_reduction(self.shape, self.trainer, self.longest, self.limits, self.capacity)
        return replace(self.trainer, gradient_reduction=reduction)


@dataclass
class Answer:
    """What a check finds; its numbers for other programs, and whether it could be found out here."""

    text: str
    values: dict[str, Any] = field(default_factory=dict)
    is_known: bool = True


@dataclass(frozen=True)
class Check:
    """A check of a run, which raises the user error that training would end in.

    ``applies`` tells the runs that it concerns; ``reads`` is whether it needs the files of the model.
    """

    name: str
    answer: Callable[[Run], Answer]
    applies: Callable[[Run], bool] = lambda _: True
    reads: bool = True


def settings(run: Run) -> Answer:
    """Settings that exclude each other, and packages that they need."""
    sft, trainer = run.spec.sft, run.trainer
    optimizers.check(sft, trainer)
    quantizing.check(sft, trainer)
    base = "" if trainer.quantize == "none" else f", a base in {trainer.quantize}"
    return Answer(f"optimiser {sft.optimizer}, precision {trainer.precision}{base}")


def model(run: Run) -> Answer:
    """The config of the model."""
    settings = run.settings
    context, border = context_of(settings), rope_border(settings)
    values = {"type": settings.model_type, "context": context, "longrope_border": border}
    text = f"{settings.model_type}, context of {context} tokens"
    text += f"; lengths up to {border} and above are not mixed in a batch (longrope)" if border else ""
    return Answer(text, values)


def kernels(run: Run) -> Answer:
    """The implementations of loss and layers."""
    loss = losses.choose(run.trainer.loss, device_of(run.trainer))
    fused.check(run.settings, run.trainer)
    layers = "compiled" if run.trainer.compile else f"of {run.trainer.kernels}"
    return Answer(f"loss {loss}, layers {layers}", {"loss": loss, "layers": layers})


def loss(run: Run) -> Answer:
    """The loss of training against that of transformers' logits."""
    compared = agreement.compare(run.settings, run.kernel)
    values = {"attention": run.kernel, "loss": compared.loss, "expected": compared.expected}
    if compared.expected is None:
        text = f"not compared with transformers' logits ({compared.failure}); attention {run.kernel}"
        return Answer(text, values, is_known=False)
    if compared.problem is not None:
        agreement.check(run.settings, run.kernel)
    return Answer(f"equals that of transformers' logits on a small model; attention {run.kernel}", values)


def teacher(run: Run) -> Answer:
    """The teacher's attention and logits."""
    assert run.teacher is not None
    config = load_config(*run.teacher)
    kernel = run.kernel_for(config)
    agreement.check(config, kernel)
    return Answer(f"{config.model_type} of {run.teacher[0]}; attention {kernel}", {"attention": kernel})


def ids(run: Run) -> Answer:
    """The tokens of the examples in the embedding of the model."""
    inputs, rows = run.inputs, len(run.model.get_input_embeddings().weight)
    assert inputs is not None
    data.check([inputs.tokens[i] for i in inputs.chosen], [inputs.examples[i] for i in inputs.chosen], rows)
    return Answer(f"the model embeds them ({rows} rows)", {"rows": rows})


def exported(run: Run) -> Answer:
    """The files of the export, which are written without weights and read back."""
    model, tokenizer = run.model, run.tokenizer
    text, values = str(run.written).removeprefix("torch."), dict[str, Any]()
    if tokenizer is not None:
        settle(run.settings, model.generation_config, tokenizer)
        eos = model.generation_config.eos_token_id
        values["eos_token_id"] = eos if isinstance(eos, list) else [eos]
        words = tokenizer.convert_ids_to_tokens(values["eos_token_id"])
        text += f"; generation ends at {', '.join(map(repr, words))}"
        if run.rehearsal is not None:
            rehearse(model, tokenizer, run.rehearsal, run.location, run.written)
    return Answer(text, values)


def fits_memory(run: Run) -> Answer:
    """The estimate of the memory of a device."""
    parts = memory.memory_bytes(run.shape, run.reducing, run.longest, run.limits)
    total = sum(parts.values())
    values = {
        "parts": parts, "total_bytes": total, "available_bytes": run.capacity, "trained": run.shape.trained,
        "host_bytes": memory.checkpoint_copy(run.shape, run.trainer) if run.trainer.accelerator == "gpu" else 0,
    }  # fmt: skip
    listing = ", ".join(f"{name} {fitting.gib(count)}" for name, count in parts.items() if count)
    there = "unknown" if run.capacity is None else f"{fitting.gib(run.capacity)} GiB"
    text = f"{fitting.gib(total)} GiB a device ({listing}); available: {there}"
    if run.capacity is not None:
        fitting.check_memory(run.shape, run.spec.sft, run.reducing, run.longest, run.limits, run.capacity)
    return Answer(text, values, is_known=run.capacity is not None)


def fits_disk(run: Run) -> Answer:
    """The space that checkpoints and export take."""
    free, keeps_best = shutil.disk_usage(_existing(run.folder)).free, run.spec.sft.best.by != "none"
    each = run.written.itemsize
    needed = fitting.disk_bytes(run.shape, run.trainer, each, keeps_best=keeps_best)
    fitting.check_disk(run.folder, run.shape, run.trainer, free, each, keeps_best=keeps_best)
    text = f"checkpoints and export need {fitting.gib(needed)} GiB, {fitting.gib(free)} GiB are free"
    return Answer(text, {"needed_bytes": needed, "free_bytes": free})


CHECKS = (
    Check("settings", settings, reads=False),
    Check("model", model),
    Check("kernels", kernels),
    Check("loss", loss),
    Check("teacher", teacher, applies=lambda run: run.teacher is not None),
    Check("ids", ids, applies=lambda run: run.inputs is not None),
    Check("export", exported),
    Check("memory", fits_memory, reads=False),
    Check("disk", fits_disk, reads=False),
)


def _existing(folder: Path) -> Path:
    """The first of a folder and those above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
