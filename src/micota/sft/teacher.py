"""The teacher of a distillation, a second model that only computes beside the student or what is stored of it, and the
loss against it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from micota.config import TrainerConfig
from micota.graph.specs import Distillation
from micota.model_files import Location
from micota.pretrained import load_config, load_model
from micota.sft import agreement, attention, context_parallel
from micota.sft.activation_checkpointing import ActivationCheckpointing
from micota.sft.activations import DISTILLED_PART
from micota.sft.chunked import chunk_rows, chunked_loss
from micota.sft.cpu_kernels import use_cpu_kernels
from micota.sft.divergences import Events, divergence, events_of
from micota.sft.losses import Objective, nll_of_chunk, softcap, supervised
from micota.sft.packing import Batch
from micota.sft.skeletons import computing_dtype, device_of
from micota.sft.targets import NUMBERS, StoredTargets

logger = logging.getLogger(__name__)
EventsOf = Callable[[int, int], Events]  # of the labelled tokens from one position to another


class Teacher:
    """A model in the precision of computation, whole on each device. It is no part of the module that is trained, and
    so in no checkpoint and not sharded."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @classmethod
    def load(cls, location: Location, precision: str, config: TrainerConfig) -> Teacher:
        """The teacher, with the attention kernel of training, which keeps packed sequences apart.

        Raises:
            ConfigError: its kernel or its loss do not fit packed sequences.
        """
        settings: Any = load_config(*location)
        kernel = attention.choose(config.attention, device_of(config), settings, precision)
        context_parallel.check(settings, kernel, config)
        agreement.check(settings, kernel)
        model: Any = load_model(
            *location, dtype=computing_dtype(precision), attn_implementation=attention.implementation(kernel)
        )
        if not config.compile:
            use_cpu_kernels(model, config)
        return cls(model.eval().requires_grad_(False))

    @torch.no_grad()
    def events(
        self, batch: Batch, edges: Mapping[str, Any], vocabulary: int, temperature: float, top_k: int | None
    ) -> EventsOf:
        """The events of the labelled tokens of a micro-batch, a chunk at a time.

        Args:
            vocabulary: rows of the student's output head. Rows that only one of the models has are padding, and left
                out.
        """
        if self.model.device != batch["input_ids"].device:
            self.model.to(batch["input_ids"].device)
        hidden, _ = supervised(self.model, batch, edges)
        head, cap = self.model.get_output_embeddings(), softcap(self.model)

        def chunk(start: int, stop: int) -> Events:
            part = hidden[start:stop].to(head.weight.dtype)
            logits = functional.linear(part, head.weight, head.bias)[:, :vocabulary].float()
            logits = logits if cap is None else cap * torch.tanh(logits / cap)
            return events_of(logits / temperature, top_k)

        return chunk


class DistillationObjective(Objective):
    """A student and its loss against a teacher, or against stored log-probabilities. Without gradients (validation) the
    loss is that of SFT, so that objectives compare."""

    def __init__(
        self,
        model: Any,
        settings: Distillation,
        teachers: Sequence[Callable[[], Teacher | StoredTargets]],
        checkpointing: ActivationCheckpointing | None = None,
    ) -> None:
        """``teachers`` open each teacher, for an equal part of the training one after the other."""
        super().__init__(model, checkpointing=checkpointing)
        self.samples = settings.sampling is not None
        self._settings = settings
        self._openers = teachers
        self._number = -1
        self._teacher: Teacher | StoredTargets | None = None

    def begin_step(self, done: float, total: float) -> None:
        """Open the teacher of this part of the training, where it is another."""
        last = len(self._openers) - 1
        number = min(last, int(done * len(self._openers) // total))
        if number == self._number:
            return
        self._teacher = None  # frees its memory before the next is read
        self._teacher, self._number = self._openers[number](), number
        if last:
            logger.info("teacher %d of %d from %g of %g on", number + 1, last + 1, done, total)

    @property
    def _vocabulary(self) -> int:
        return len(self.model.get_output_embeddings().weight)

    def prepared(self, batch: Batch) -> Batch:
        """The micro-batch, with the stored log-probabilities of its labels (``log_p``, ``ids``)."""
        numbers = batch.get(NUMBERS)
        batch = super().prepared({name: values for name, values in batch.items() if name != NUMBERS})
        if not isinstance(self._teacher, StoredTargets) or not torch.is_grad_enabled():
            return batch
        rows = torch.zeros(0, dtype=torch.long) if numbers is None else numbers.flatten()[batch["labelled"]]
        events = self._teacher.events(rows, self._vocabulary)
        assert events.ids is not None
        return batch | {"log_p": events.log_p, "ids": events.ids}

    def loss_of(self, batch: Batch, edges: Mapping[str, Any]) -> Callable[..., torch.Tensor]:
        if not torch.is_grad_enabled():
            return super().loss_of(batch, edges)
        settings, vocabulary = self._settings, self._vocabulary
        if isinstance(self._teacher, StoredTargets):
            events: EventsOf = partial(_rows_of, Events(batch["log_p"], vocabulary, batch["ids"]))
        else:
            assert self._teacher is not None, "begin_step opens it"
            events = self._teacher.events(batch, edges, vocabulary, settings.temperature, settings.top_k)
        return partial(summed_divergence, events=events, settings=settings)


def opened(teacher: Location | StoredTargets, precision: str, config: TrainerConfig) -> Teacher | StoredTargets:
    """A teacher in memory, or what is stored of one.

    Raises:
        ConfigError: as of :meth:`Teacher.load`.
    """
    return teacher if isinstance(teacher, StoredTargets) else Teacher.load(teacher, precision, config)


def _rows_of(events: Events, start: int, stop: int) -> Events:
    assert events.ids is not None
    return Events(events.log_p[start:stop], events.vocabulary, events.ids[start:stop])


def summed_divergence(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    divisor: float,
    *,
    events: EventsOf,
    settings: Distillation,
    bias: torch.Tensor | None = None,
    cap: float | None = None,
    rows: int | None = None,
    into: torch.Tensor | None = None,
) -> torch.Tensor:
    """The divergence from the teacher summed over tokens, mixed with the negative log-likelihood by ``hard_weight``,
    over ``divisor``, in nats; other arguments as of ``losses.summed_nll``.

    The divergence is not multiplied by the square of the temperature, as in TRL and unlike Hinton et al. (arXiv
    1503.02531).
    """

    def score(logits: torch.Tensor, start: int, wants_grad: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        value, grad = divergence_of_chunk(logits, events(start, start + len(logits)), settings)
        hard = settings.hard_weight
        value, grad = (1 - hard) * value, grad.mul_((1 - hard) / divisor)
        if hard:
            nll, slope = nll_of_chunk(labels, divisor, logits, start, wants_grad)
            value = value + hard * nll
            grad = grad if slope is None else grad.add_(slope, alpha=hard)
        return value, grad if wants_grad else None

    rows = rows or max(1, chunk_rows(weight, hidden) // DISTILLED_PART)
    return chunked_loss(score, hidden, weight, divisor, bias=bias, cap=cap, rows=rows, into=into)


def divergence_of_chunk(
    logits: torch.Tensor, events: Events, settings: Distillation
) -> tuple[torch.Tensor, torch.Tensor]:
    """The summed divergence of a chunk and its gradient with respect to the student's logits."""
    shared, temperature = events.vocabulary, settings.temperature
    value, slope = divergence(logits[:, :shared] / temperature, events, settings.divergence, settings.beta)
    slope /= temperature  # of logits / temperature with respect to logits
    return value.sum(), functional.pad(slope, (0, logits.shape[1] - shared)) if shared < logits.shape[1] else slope
