"""The arithmetic of a run as it goes: student, teacher and the student's answers, and its end at a budget of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from micota.config import SftConfig
from micota.sft.data import Inputs, Step
from micota.sft.shape import Shape

PARTS = ("train", "teacher", "generate")


class Spending(Callback):
    """Counts floating-point operations by what they are for, and stops after the step in which the budget is used up.

    The count is that of :class:`micota.sft.shape.Shape`: what the models need, without what activation checkpointing
    repeats. It does not depend on the machine. Checkpoints save it.
    """

    def __init__(self, student: Shape, teacher: Shape | None, budget: float | None, *, samples: bool) -> None:
        """``samples``: the student generates the answers that it learns on."""
        self.flops = dict.fromkeys(PARTS, 0.0)
        self._student, self._teacher = student, teacher
        self._budget, self._samples = budget, samples

    def add(self, step: Step) -> None:
        """Count a step, over all ranks."""
        lengths, learnt = step.lengths, step.num_supervised
        self.flops["train"] += self._student.flops(lengths, learnt)
        if self._teacher is not None:
            self.flops["teacher"] += self._teacher.forward_flops(lengths, learnt)
        if self._samples:
            self.flops["generate"] += self._student.forward_flops(lengths, learnt)

    @property
    def share(self) -> float | None:
        """The share of the budget that is used; None without one."""
        return None if self._budget is None else sum(self.flops.values()) / self._budget

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self._is_over  # killed between its last step and the export

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        trainer.should_stop = trainer.should_stop or self._is_over

    @property
    def _is_over(self) -> bool:
        return self.share is not None and self.share >= 1

    def state_dict(self) -> dict[str, Any]:
        return {"flops": self.flops}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.flops = state_dict["flops"]


def expected_steps(inputs: Inputs, sft: SftConfig, student: Shape, teacher: Shape | None) -> int | None:
    """The steps that ``sft.max_flops`` pays for, by the mean example of the data; None without it. Answers that the
    student samples are taken to be as long as those of the data."""
    if sft.max_flops is None:
        return None
    used = [inputs.tokens[index] for index in inputs.chosen]
    each = sum(
        student.flops([len(one.ids)], one.num_supervised)
        + (teacher.forward_flops([len(one.ids)], one.num_supervised) if teacher else 0)
        + (student.forward_flops([len(one.ids)], one.num_supervised) if inputs.answer_tokens else 0)
        for one in used
    )
    units = sft.batch_size if sft.batch_of == "examples" else 1
    return max(1, round(sft.max_flops / (units * each / len(used))))


def most_steps(inputs: Inputs, sft: SftConfig, student: Shape) -> int | None:
    """More steps than ``sft.max_flops`` pays for: it ends the run before. None without it.

    A step costs at least twice the forward passes of its examples, and these at least as much as the shortest ones.
    """
    if sft.max_flops is None:
        return None
    lengths = _shortest(inputs, sft.batch_size if sft.batch_of == "examples" else 1)
    return math.ceil(sft.max_flops / (2 * student.forward_flops(lengths, len(lengths))))


def _shortest(inputs: Inputs, count: int) -> Sequence[int]:
    if inputs.answer_tokens is None:
        lengths = [inputs.tokens.lengths[index] for index in inputs.chosen]
    else:
        lengths = [len(inputs.tokens[index].prompt) for index in inputs.chosen]
    return sorted(lengths)[: max(1, min(count, len(lengths)))]
