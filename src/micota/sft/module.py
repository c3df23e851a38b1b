"""The LightningModule: loss on response tokens, AdamW, cosine schedule with warm-up per step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import distributed
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from micota.config import SftConfig, TrainerConfig
from micota.sft.checkpoints import trained_state
from micota.sft.data import Step
from micota.sft.losses import liger_nll, softcap, summed_nll, supervised
from micota.sft.memory import Shape, peak_memory_bytes
from micota.sft.packing import Batch, borders
from micota.sft.sharding import shard


class NonFiniteError(ValueError):
    """The loss or the gradient is not a finite number. ``examples`` are the indices of those in the step."""

    def __init__(self, step: int, loss: float, norm: float, examples: list[int]) -> None:
        super().__init__(f"the loss is {loss:g} and the gradient {norm:g} at step {step}; lower the learning rate")
        self.step, self.loss, self.norm, self.examples = step, loss, norm, examples


def learning_rate_factor(step: int, total: int, warmup_ratio: float) -> float:
    """Linear warm-up from above 0, then a cosine that would reach 0 after the last step (Loshchilov & Hutter 2017)."""
    warmup = math.ceil(total * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


class Objective(torch.nn.Module):
    """A causal LM and its loss as one module, so that sharded weights of the output head are whole while it runs."""

    def __init__(self, model: Any, loss: str = "chunked") -> None:
        super().__init__()
        self.model = model
        self.function = liger_nll if loss == "liger" else summed_nll

    def forward(self, batch: Batch, edges: Mapping[str, Any], divisor: float) -> torch.Tensor:
        """The negative log-likelihood of all labelled tokens over ``divisor``, in nats."""
        hidden, labels = supervised(self.model, batch, edges)
        head = self.model.get_output_embeddings()
        options = {"bias": head.bias, "cap": softcap(self.model)}
        if self.function is summed_nll and self._sums_in_place(head.weight):
            if head.weight.grad is None:
                head.weight.grad = torch.zeros_like(head.weight)
            options["into"] = head.weight.grad
        return self.function(hidden, head.weight, labels, divisor, **options)

    def _sums_in_place(self, weight: torch.Tensor) -> bool:
        """Whether the gradient of the output head may be added to the sum at once: it is ours and in float32."""
        trains = weight.requires_grad and torch.is_grad_enabled()
        return trains and weight.dtype == torch.float32 and not isinstance(self, FSDPModule)


class SftModule(LightningModule):
    """Trains a Hugging Face causal LM; one training step is one optimiser step over a whole batch.

    Optimisation is manual because the loss is normalised by the supervised tokens of the whole step, over micro-batches
    and ranks: means of means, as automatic accumulation has it, would weigh tokens by how they happen to be cut up.
    """

    def __init__(
        self,
        model: Any,
        sft: SftConfig,
        trainer: TrainerConfig,
        num_steps: int,
        report: Callable[[Mapping[str, float], int], None],
        *,
        seed: int = 0,
        peak_flops: float | None = None,
        loss: str = "chunked",
        recompute: Callable[[int], None] | None = None,
        fill: Callable[[torch.device], None] | None = None,
        evaluate: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        """
        Args:
            report: gets the metrics of a step, and its number.
            recompute: told the positions of each micro-batch before its forward pass.
            fill: reads the weights of a model that is on the meta device until it is sharded.
            evaluate: asks the model as it is; called every ``trainer.evaluate_every`` steps, and its metrics reported.
        """
        super().__init__()
        self.objective = Objective(model, loss)
        self.shape = Shape.of(model)
        self.sft = sft
        self.config = trainer
        self.num_steps = num_steps
        self.seed = seed
        self.peak_flops = peak_flops
        self.automatic_optimization = False
        self.strict_loading = all(weight.requires_grad for weight in model.parameters())
        self.last_loss: torch.Tensor
        self.register_buffer(
            "last_loss", torch.tensor(math.nan)
        )  # in checkpoints, for a run killed after its last step
        self.validation_loss: torch.Tensor
        self.register_buffer("validation_loss", torch.tensor(math.nan))
        self._report = report
        self._recompute = recompute
        self._fill = fill
        self._evaluate = evaluate
        self._began = 0.0

    def configure_model(self) -> None:
        if self.config.world_size > 1:
            mesh = self.device_mesh
            assert mesh is not None
            shard(self.objective, mesh["data_parallel"], self.config)
            if self._fill is not None:
                self._fill(torch.device("cpu") if self.config.cpu_offload else self._place)
                self._fill = None

    def configure_optimizers(self) -> Any:
        trained = [p for p in self.objective.parameters() if p.requires_grad]
        matrices = [p for p in trained if p.ndim >= 2]
        vectors = [p for p in trained if p.ndim < 2]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self.sft.learning_rate,
            weight_decay=self.sft.weight_decay,
            fused=True,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, self.num_steps, self.sft.warmup_ratio)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = trained_state(self, checkpoint["state_dict"])

    def on_train_start(self) -> None:
        self._began = time.perf_counter()

    def training_step(self, batch: Step, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        scheduler: Any = self.lr_schedulers()
        optimizer.zero_grad()
        # By step and rank, so that dropout is the same after a resume.
        torch.manual_seed(
            int(np.random.SeedSequence([self.seed, self.global_step, self.global_rank]).generate_state(1)[0])
        )
        total = torch.zeros((), device=self._place)
        for piece in batch.pieces:
            if self._recompute is not None:
                self._recompute(piece["input_ids"].numel())
            loss = self._loss(piece, batch.num_supervised / self._world_size)  # gradients are averaged over ranks
            self.manual_backward(loss)
            total += loss.detach()
        loss_value = self._over_ranks(total) / self._world_size
        trained = [p for p in self.objective.parameters() if p.requires_grad]
        norm = float(_whole(torch.nn.utils.clip_grad_norm_(trained, self.sft.max_grad_norm)))
        if not (math.isfinite(norm) and math.isfinite(loss_value)):
            raise NonFiniteError(self.global_step, loss_value, norm, batch.examples)
        self.last_loss.fill_(loss_value)
        learning_rate = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
        speed = self._speed(batch)
        metrics = {"train/loss": loss_value, "train/grad_norm": norm, "train/learning_rate": learning_rate}
        self._report(metrics | speed, self.global_step)
        self._validate()
        self._ask()
        self._began = time.perf_counter()

    @torch.no_grad()
    def _validate(self) -> None:
        """Where it is due, the mean negative log-likelihood of the supervised tokens that are held out, in nats."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        every, done = self.config.validate_every, self.global_step
        if not data.validation_steps or not (done == self.num_steps or (every and done % every == 0)):
            return
        self.objective.eval()
        total, count = torch.zeros((), device=self._place), 0
        for step in data.validation():
            for piece in step.pieces:
                total += self._loss(piece, 1.0)
            count += step.num_supervised
        self.objective.train()
        self.validation_loss.fill_(self._over_ranks(total) / count)
        self._report({"validation/loss": float(self.validation_loss)}, self.global_step)

    def _ask(self) -> None:
        """Where it is due, what the model answers by now. A step seeds what it draws, so training is not touched."""
        every = self.config.evaluate_every
        if self._evaluate is None or every is None or self.global_step % every:
            return
        self.objective.eval()
        found = self._evaluate()
        self.objective.train()
        self._report(found, self.global_step)

    def _loss(self, piece: Batch, divisor: float) -> torch.Tensor:
        edges = borders(piece["position_ids"])
        there = {name: values.to(self._place, non_blocking=True) for name, values in piece.items()}
        edges |= {name: edges[name].to(self._place, non_blocking=True) for name in ("cu_seq_lens_q", "cu_seq_lens_k")}
        kind = self._place.type
        # Without autocast's cache, which would hold a copy of all weights until the step is over.
        with torch.autocast(
            kind, torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind), cache_enabled=False
        ):
            loss: torch.Tensor = self.objective(there, edges, divisor)
        return loss

    def _speed(self, batch: Step) -> dict[str, float]:
        """Of the step, data included: supervised tokens a second, share of the peak FLOP/s, most memory used so far."""
        seconds = time.perf_counter() - self._began
        found = {"train/tokens_per_s": batch.num_supervised / seconds}
        if self.peak_flops is not None:
            flops = self.shape.flops(batch.lengths, batch.num_supervised)
            found["train/mfu"] = flops / seconds / (self.peak_flops * self._world_size)
        return found | {"train/peak_memory_bytes": float(peak_memory_bytes())}

    @property
    def _place(self) -> torch.device:
        """Where to compute; the weights may be elsewhere."""
        return self.trainer.strategy.root_device

    @property
    def _world_size(self) -> int:
        return self.config.world_size

    def _over_ranks(self, value: torch.Tensor) -> float:
        """The sum of a scalar over all ranks."""
        if self._world_size > 1:
            distributed.all_reduce(value)
        return float(value)


def _whole(value: torch.Tensor) -> torch.Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value
