"""What one optimiser step computes: loss, gradients over micro-batches and ranks, clipping, AdamW.

:mod:`micota.sft.fit` says why it departs from the defaults of Lightning.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch.distributed import ProcessGroup

from micota.artifacts.jsonl import write_text
from micota.config import SftConfig, TrainerConfig
from micota.sft import context_parallel, losses
from micota.sft.best import num_right
from micota.sft.callbacks import sum_over_ranks
from micota.sft.data import Inputs, Step
from micota.sft.learning_rate import learning_rate_factor
from micota.sft.optimizers import adamw
from micota.sft.packing import Batch, borders
from micota.sft.resharding import trained_state
from micota.sft.sharding import reduce_gradients, shard, whole
from micota.sft.spending import Spending

PARTS_OF_BUDGET = 1000  # in which the learning rate changes, where a budget and no number of steps ends the run


class SftModule(LightningModule):
    """Loss on response tokens, AdamW, learning-rate schedule with warm-up. One training step is one optimiser step."""

    def __init__(
        self,
        objective: losses.Objective,
        sft: SftConfig,
        trainer: TrainerConfig,
        num_steps: int,
        fill: Callable[[torch.device], None] | None = None,
        spending: Spending | None = None,
    ) -> None:
        """``fill`` reads the weights of a model on the meta device after it is sharded. ``spending`` counts arithmetic,
        and with a budget of it sets the learning rate.

        ``trainer.gradient_reduction`` is a result of ``memory.gradient_reduction``; here ``auto`` is ``step``.
        """
        super().__init__()
        self.automatic_optimization = False
        self.objective = objective
        self.sft = sft
        self.config = trainer
        self.num_steps = num_steps
        self._reduces_each = trainer.gradient_reduction == "micro_batch"
        self.strict_loading = all(weight.requires_grad for weight in objective.parameters())
        self.last_loss: torch.Tensor
        self.register_buffer("last_loss", torch.tensor(math.nan))  # saved, for a run killed after its last step
        self._fill = fill
        self._context: ProcessGroup | None = None
        self._spending = spending

    def configure_model(self) -> None:
        """Shard the model, and read this rank's rows of its weights."""
        if self.config.is_sharded:
            mesh = self.device_mesh
            assert mesh is not None
            self._context = self._context or context_parallel.group_of(self.config)
            shard(self.objective, mesh["data_parallel"], self.config)
            if self._fill is not None:
                self._fill(torch.device("cpu") if self.config.cpu_offload else self._compute_device)
                self._fill = None

    def configure_optimizers(self) -> Any:
        optimizer = adamw(self._trained(), self.sft)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        # Per step: Lightning's default is per epoch, and all epochs are one here.
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _factor(self, step: int) -> float:
        """The factor of the learning rate of a step, by the share of steps or of the budget that is done."""
        share = None if self._spending is None else self._spending.share
        if share is None:
            return learning_rate_factor(step, self.num_steps, self.sft)
        return learning_rate_factor(min(PARTS_OF_BUDGET - 1, int(share * PARTS_OF_BUDGET)), PARTS_OF_BUDGET, self.sft)

    def on_train_start(self) -> None:
        self._begin_step()  # what cannot be opened is an error before the first batch

    def _begin_step(self) -> None:
        """Tell the objective how much of the run is done: steps, or a budget."""
        share = None if self._spending is None else self._spending.share
        done, total = (self.trainer.global_step, self.num_steps) if share is None else (share, 1.0)
        self.objective.begin_step(done, total)

    def training_step(self, batch: Step, batch_idx: int) -> dict[str, float]:
        """Accumulate the gradient of all micro-batches, clip it, and update the weights.

        Raises:
            NonFiniteError: the loss or the gradient norm is not finite; the weights are not updated.
        """
        self._begin_step()
        optimizer: Any = self.optimizers()
        scheduler: Any = self.lr_schedulers()
        optimizer.zero_grad()
        # Dropout's generator is in no checkpoint: a seed for each step makes it the same after a resume.
        torch.manual_seed(batch.seed + (0 if self._context is None else self._context.rank()))
        total = torch.zeros((), device=self._compute_device)
        for number, micro_batch in enumerate(batch.micro_batches, start=1):
            reduce_gradients(self.objective, self._reduces_each or number == len(batch.micro_batches))
            # Sharding averages gradients over the W ranks: mean_r(loss_r / (N / W)) = sum_r(loss_r) / N.
            loss = self.loss(micro_batch, batch.num_supervised / self.config.world_size)
            self.manual_backward(loss)
            total += loss.detach()
        loss_value = float(sum_over_ranks(total)) / self.config.world_size
        # g <- g * min(1, max_norm / |g|), over all trained weights and ranks (Pascanu et al. 2013, arXiv 1211.5063).
        norm = float(whole(torch.nn.utils.clip_grad_norm_(self._trained(), self.sft.max_grad_norm)))
        if not (math.isfinite(norm) and math.isfinite(loss_value)):
            raise NonFiniteError(self.global_step, loss_value, norm, batch.examples)
        self.last_loss.fill_(loss_value)
        # The rate of this step; scheduler.step sets that of the next.
        learning_rate = optimizer.param_groups[0]["lr"]
        optimizer.step()
        if self._spending is not None:
            self._spending.add(batch)
        scheduler.step()
        metrics = {"train/loss": loss_value, "train/grad_norm": norm, "train/learning_rate": learning_rate}
        if self.objective.samples:
            metrics["train/answer_tokens"] = batch.num_supervised / len(batch.examples)
        return metrics

    def loss(self, micro_batch: Batch, divisor: float) -> torch.Tensor:
        """Negative log-likelihood of the labelled tokens of packed rows over ``divisor``, in nats (scalar, float32)."""
        # Read borders and positions of labels on the CPU, before the ids move: on the GPU each read would wait for
        # previous kernels.
        micro_batch = context_parallel.padded(micro_batch, self.config.context_parallel)
        edges = borders(micro_batch["position_ids"])
        if self._context is not None:  # borders are those of whole rows, and all else of this rank's part
            edges[context_parallel.GROUP] = self._context
            micro_batch = context_parallel.part(micro_batch, self._context)
        device = self._compute_device
        inputs = {name: moved(values, device) for name, values in self.objective.prepared(micro_batch).items()}
        edges |= {name: moved(edges[name], device) for name in ("cu_seq_lens_q", "cu_seq_lens_k")}
        dtype, enabled = torch.get_autocast_dtype(device.type), torch.is_autocast_enabled(device.type)
        with torch.autocast(device.type, dtype, enabled=enabled, cache_enabled=False):
            value: torch.Tensor = self.objective(inputs, edges, divisor)
        return value

    def teardown(self, stage: str) -> None:
        # Before Lightning moves them to the machine's memory, and before the export needs memory.
        for optimizer in self.trainer.optimizers:
            optimizer.state.clear()
        for weight in self._trained():
            weight.grad = None

    @contextmanager
    def counting_right_tokens(self) -> Iterator[None]:
        """Within the block, :meth:`loss` is the number of labels that are the most likely token."""
        before, self.objective.function = self.objective.function, num_right
        try:
            yield
        finally:
            self.objective.function = before

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = trained_state(self, checkpoint["state_dict"])

    def _trained(self) -> list[torch.nn.Parameter]:
        return [weight for weight in self.objective.parameters() if weight.requires_grad]

    @property
    def _compute_device(self) -> torch.device:
        """The device that computes; ``self.device`` is that of offloaded weights."""
        return self.trainer.strategy.root_device


def moved(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on ``device``, without a wait for earlier work there: such copies need pinned memory."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


class NonFiniteError(Exception):
    """The loss or the gradient is not a finite number. The weights were, as they are checked when they are read.

    Args:
        examples: the indices of the examples in the step.
    """

    def __init__(self, step: int, loss: float, norm: float, examples: list[int]) -> None:
        super().__init__(f"the loss is {loss:g} and the gradient {norm:g} at step {step}; lower the learning rate")
        self.step, self.loss, self.norm, self.examples = step, loss, norm, examples

    def write(self, path: Path, inputs: Inputs) -> None:
        """Write the step and the problems of its examples, as JSON."""
        ids = [inputs.examples[index].problem_id for index in self.examples]
        content = {"step": self.step, "loss": str(self.loss), "gradient": str(self.norm), "problem_ids": ids}
        write_text(path, json.dumps(content, indent=2) + "\n")
