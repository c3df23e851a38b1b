"""The LightningModule: loss on response tokens, AdamW, cosine schedule with warm-up per step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule

from micota.config import SftConfig, TrainerConfig
from micota.packing import IGNORED, Batch, micro_batches, token_nll


def learning_rate_factor(step: int, total: int, warmup_ratio: float) -> float:
    """Linear warm-up from above 0, then a cosine that would reach 0 after the last step (Loshchilov & Hutter 2017)."""
    warmup = math.ceil(total * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


class SftModule(LightningModule):
    """Trains a Hugging Face causal LM; one training step is one optimiser step over a whole batch.

    Optimisation is manual because the loss is normalised by the supervised tokens of the whole step: micro-batch means
    averaged afterwards, as automatic accumulation has it, would weigh tokens by how they happen to be cut up.
    """

    def __init__(
        self,
        model: Any,
        sft: SftConfig,
        trainer: TrainerConfig,
        num_steps: int,
        report: Callable[[Mapping[str, float], int], None],
    ) -> None:
        super().__init__()
        self.model = model
        self.sft = sft
        self.row_batch = trainer.row_batch
        self.num_steps = num_steps
        self.automatic_optimization = False
        self.last_loss: torch.Tensor
        self.register_buffer(
            "last_loss", torch.tensor(math.nan)
        )  # in checkpoints, for a run killed after its last step
        self._report = report

    def configure_optimizers(self) -> Any:
        matrices = [p for p in self.model.parameters() if p.ndim >= 2]
        vectors = [p for p in self.model.parameters() if p.ndim < 2]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(
            groups,
            lr=self.sft.learning_rate,
            weight_decay=self.sft.weight_decay,
            fused=True,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, self.num_steps, self.sft.warmup_ratio)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        began = time.perf_counter()
        optimizer: Any = self.optimizers()
        scheduler: Any = self.lr_schedulers()
        optimizer.zero_grad()
        num_tokens = int((batch["labels"] != IGNORED).sum())
        total = 0.0
        for piece in micro_batches(batch, self.row_batch):
            loss = token_nll(self.model, piece).sum() / num_tokens
            self.manual_backward(loss)
            total += float(loss.detach())
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.sft.max_grad_norm))
        if not math.isfinite(norm):
            raise ValueError(f"the gradient is {norm} at step {batch_idx}; lower the learning rate")
        self.last_loss.fill_(total)
        learning_rate = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
        seconds = time.perf_counter() - began
        metrics = {
            "train/loss": total,
            "train/grad_norm": norm,
            "train/learning_rate": learning_rate,
            "train/tokens_per_s": num_tokens / seconds,
        }
        self._report(metrics, self.global_step)
