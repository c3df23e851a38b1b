"""Negative log-likelihood of packed batches, with the logits of only one chunk of tokens in memory.

The output head is applied only to labelled positions, so that prompts and padding cost no logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.nn import functional

from micota.errors import ConfigError
from micota.sft.activation_checkpointing import ActivationCheckpointing
from micota.sft.chunked import chunk_rows, chunked_loss
from micota.sft.packing import IGNORED, Batch
from micota.sft.sharding import within


def supervised(model: Any, batch: Batch, borders: Mapping[str, Any] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Final hidden states of labelled positions (tokens x hidden), row by row, and their labels (tokens).

    The states include the factor of :func:`logit_factor`, so that the output head gives the model's logits.

    ``attention_mask`` must be absent and the cache off: only then do transformers' models read restarting position ids
    as the borders of packed sequences. ``borders`` (of ``packing.borders``) are for kernels that work by sequence.
    """
    hidden = model.base_model(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        attention_mask=None,
        use_cache=False,
        **(borders or {}),
    ).last_hidden_state
    # The head works on each position alone, so that positions without a label can be dropped before it.
    positions = batch["labelled"] if "labelled" in batch else with_positions(batch)["labelled"]
    states, factor = hidden.flatten(0, 1).index_select(0, positions), logit_factor(model)
    return states if factor == 1 else states * factor, batch["labels"].flatten().index_select(0, positions)


def with_positions(batch: Batch) -> Batch:
    """The batch with ``labelled``, the positions that have labels, in the flattened rows.

    Their number depends on data: on a GPU its computation waits for all previous kernels, so call this function before
    a batch moves there.
    """
    return batch | {"labelled": (batch["labels"].flatten() != IGNORED).nonzero()[:, 0]}


def logit_factor(model: Any) -> float:
    """The number by which a model multiplies the product of hidden states and output head: 1 for most.

    Granite divides by ``logits_scaling`` and HyperCLOVA X multiplies by it; Cohere multiplies by ``logit_scale``,
    Falcon-H1 by ``lm_head_multiplier``. Before training ``sft.agreement`` compares the loss with transformers' logits,
    so that a model with another rule is refused.
    """
    config = model.config.get_text_config()
    if (scaling := getattr(config, "logits_scaling", None)) is not None:
        return float(scaling) if config.model_type.startswith("hyperclovax") else 1 / float(scaling)
    factors = (getattr(config, name, None) for name in ("logit_scale", "lm_head_multiplier"))
    return next((float(factor) for factor in factors if isinstance(factor, int | float)), 1.0)


def softcap(model: Any) -> float | None:
    """The bound of Gemma 2's logits, cap * tanh(logits / cap) (arXiv 2408.00118, section 2), or None."""
    return getattr(model.config.get_text_config(), "final_logit_softcapping", None)


def chunked_logits(model: Any, batch: Batch) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits of labelled positions (tokens x vocabulary, float32), a chunk at a time, row by row, with their labels."""
    hidden, labels = supervised(model, batch)
    head, cap = model.get_output_embeddings(), softcap(model)
    for part, targets in _chunks(hidden, labels, chunk_rows(head.weight, hidden)):
        # In float32: between 16 and 32 the steps of bfloat16 are 0.125.
        logits = head(part).float()
        yield logits if cap is None else cap * torch.tanh(logits / cap), targets


def token_nll(model: Any, batch: Batch) -> torch.Tensor:
    """Negative log-likelihood, in nats, of every labelled token of a packed batch, row by row (float32, 1-d)."""
    pieces = [
        functional.cross_entropy(logits, targets, reduction="none") for logits, targets in chunked_logits(model, batch)
    ]
    return torch.cat(pieces) if pieces else torch.zeros(0, device=batch["labels"].device)


def summed_nll(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    divisor: float,
    *,
    bias: torch.Tensor | None = None,
    cap: float | None = None,
    rows: int | None = None,
    into: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sum of the negative log-likelihoods of ``labels`` over ``divisor``, in nats: a float32 scalar to train on.

    Args:
        hidden: tokens x hidden. ``weight``: of the output head, vocabulary x hidden; ``bias``: vocabulary.
        labels: tokens.
        divisor: divides the sum, as the number of supervised tokens of an optimiser step.
        cap: bound of the logits by tanh, as in Gemma 2.
        rows, into: as of :func:`micota.sft.chunked.chunked_loss`.
    """
    options: dict[str, Any] = {"bias": bias, "cap": cap, "rows": rows, "into": into}
    return chunked_loss(partial(nll_of_chunk, labels, divisor), hidden, weight, divisor, **options)


def nll_of_chunk(
    labels: torch.Tensor, divisor: float, logits: torch.Tensor, start: int, wants_grad: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The summed negative log-likelihood of the labels from ``start`` on, and its gradient over ``divisor``, in the
    memory of ``logits`` (``micota.sft.chunked.Score``)."""
    targets = labels[start : start + len(logits), None]
    # In place from here: logits, their exponentials, and then their gradients, (softmax - one-hot) / divisor.
    # NLL = log sum_v exp(z_v) - z_target; subtract the largest, since exp overflows float32 above 88.
    logits -= logits.amax(dim=-1, keepdim=True)
    picked = logits.gather(1, targets)
    sums = logits.exp_().sum(dim=-1, keepdim=True)
    value = (sums.log() - picked).sum()
    if not wants_grad:
        return value, None
    return value, logits.div_(sums * divisor).scatter_add_(1, targets, torch.full_like(picked, -1 / divisor))


def liger_nll(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    divisor: float,
    *,
    bias: torch.Tensor | None = None,
    cap: float | None = None,
) -> torch.Tensor:
    """As :func:`summed_nll`, by Liger Kernel's fused Triton kernel (GPU)."""
    if not len(labels):  # Liger divides by the number of tokens
        return summed_nll(hidden, weight, labels, divisor, bias=bias, cap=cap)
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    total: torch.Tensor = liger_fused_linear_cross_entropy(
        hidden,
        weight.to(hidden.dtype),
        labels,  # not shifted: each is aligned with the position that predicts it
        bias=None if bias is None else bias.to(hidden.dtype),
        reduction="sum",
        softcap=cap,
        accum_dtype=torch.float32,  # for the weight's gradient, a sum over chunks; bfloat16 would round at each
    )
    return total / divisor


class Objective(torch.nn.Module):
    """A causal LM and its loss as one module, so that FSDP2 gathers the weights outside of layers for the loss too."""

    def __init__(self, model: Any, loss: str = "chunked", checkpointing: ActivationCheckpointing | None = None) -> None:
        """``loss`` is a result of :func:`choose`; ``checkpointing`` is set up for each micro-batch."""
        super().__init__()
        self.model = model
        self.function: Callable[..., torch.Tensor] = liger_nll if loss == "liger" else summed_nll
        self.samples = False  # whether it learns on answers of the model
        self._checkpointing = checkpointing

    def forward(self, batch: Batch, edges: Mapping[str, Any], divisor: float) -> torch.Tensor:
        """The negative log-likelihood of all labelled tokens over ``divisor``, in nats."""
        if self._checkpointing is not None:
            self._checkpointing(batch["input_ids"].numel())
        hidden, labels = supervised(self.model, batch, edges)
        head = self.model.get_output_embeddings()
        function = self.loss_of(batch, edges)

        # The loss reads the weight of the head without a call of the head, which would build all logits.
        return within(head, lambda states: self._of_head(head, function, states, labels, divisor), hidden)

    def _of_head(
        self,
        head: Any,
        function: Callable[..., torch.Tensor],
        hidden: torch.Tensor,
        labels: torch.Tensor,
        divisor: float,
    ) -> torch.Tensor:
        options = {"bias": head.bias, "cap": softcap(self.model)}
        if function is not liger_nll and self._sums_in_place(head.weight):
            # A tied head is also the embedding: autograd adds the gradient of the embedding to the same tensor later.
            if head.weight.grad is None:
                head.weight.grad = torch.zeros_like(head.weight)
            options["into"] = head.weight.grad
        return function(hidden, head.weight, labels, divisor, **options)

    def begin_step(self, done: float, total: float) -> None:
        """Make ready for a step of a training of which ``done`` of ``total`` steps, or operations, are done."""

    def prepared(self, batch: Batch) -> Batch:
        """A micro-batch of this rank, before it moves to the device, with what the loss needs beside the tokens."""
        return with_positions(batch)

    def loss_of(self, batch: Batch, edges: Mapping[str, Any]) -> Callable[..., torch.Tensor]:
        """The loss of a micro-batch as a function of hidden states, output head, labels and divisor."""
        return self.function

    def _sums_in_place(self, weight: torch.Tensor) -> bool:
        """Whether the loss may add to the gradient of the output head directly: it is not sharded and in float32."""
        trains = weight.requires_grad and torch.is_grad_enabled()
        return trains and weight.dtype == torch.float32 and not isinstance(self, FSDPModule)


def choose(wanted: str, device: str) -> str:
    """``liger`` or ``chunked``; ``auto`` is Liger on a GPU if it is installed.

    Raises:
        ConfigError: ``wanted`` is Liger where it cannot run.
    """
    there = device == "cuda" and find_spec("liger_kernel") is not None and find_spec("triton") is not None
    if wanted == "liger" and not there:
        raise ConfigError(
            "trainer.loss='liger' needs a GPU, triton and the package liger-kernel; accepted: auto, chunked"
        )
    return "liger" if there and wanted != "chunked" else "chunked"


def _chunks(hidden: torch.Tensor, labels: torch.Tensor, rows: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for start in range(0, len(labels), rows):
        yield hidden[start : start + rows], labels[start : start + rows]
