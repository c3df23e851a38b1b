"""AdamW, and the kinds of it in bitsandbytes: 8-bit moments (arXiv 2110.02861) and paged ones (arXiv 2305.14314)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from micota.config import SftConfig, TrainerConfig
from micota.config.optimizers import OPTIMIZERS
from micota.errors import ConfigError
from micota.sft.rounding import RoundedAdamW, rounded


def check(sft: SftConfig, trainer: TrainerConfig) -> None:
    """Refuse an optimiser that cannot run here, before anything is made.

    Raises:
        ConfigError: its package is missing, or it does not fit the devices.
    """
    kind = OPTIMIZERS[sft.optimizer]
    if kind.package is not None and find_spec(kind.package) is None:
        raise ConfigError(
            f"sft.optimizer={kind.name} needs the package {kind.package}, which is not installed; accepted: "
            f"pip install 'micota[{kind.package}]', or sft.optimizer=adamw"
        )
    if kind.is_paged and (trainer.accelerator == "cpu" or trainer.cpu_offload):
        where = "accelerator=cpu" if trainer.accelerator == "cpu" else "cpu_offload=true"
        raise ConfigError(
            f"sft.optimizer={kind.name} with trainer.{where}, where nothing is on a GPU that could be full; accepted: "
            f"sft.optimizer={kind.name.removeprefix('paged_')}"
        )


def adamw(weights: Sequence[torch.nn.Parameter], sft: SftConfig) -> torch.optim.Optimizer:
    """The optimiser of ``sft`` for trained weights; weight decay is for matrices only, not for biases and gains."""
    matrices = [weight for weight in weights if weight.ndim >= 2]
    vectors = [weight for weight in weights if weight.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    kind = OPTIMIZERS[sft.optimizer]
    settings: dict[str, Any] = {
        "lr": sft.learning_rate,
        "betas": (sft.beta1, sft.beta2),
        "eps": sft.epsilon,
        "weight_decay": sft.weight_decay,
    }
    groups = [group for group in groups if group["params"]]
    if kind.package is None:
        if any(weight.dtype == torch.bfloat16 for weight in weights):
            return RoundedAdamW(groups, **settings)
        return torch.optim.AdamW(groups, fused=True, **settings)
    made: torch.optim.Optimizer = _of_bitsandbytes(kind.opens)(groups, **settings)
    return made


def _of_bitsandbytes(name: str) -> Any:
    """A class of bitsandbytes that also takes weights in shards, and rounds bfloat16 weights as
    :class:`micota.sft.rounding.RoundedAdamW` does."""
    import bitsandbytes

    base: Any = getattr(bitsandbytes.optim, name)

    class OnShards(base):
        """Its kernels take plain tensors: the shard of each weight that this rank holds."""

        is_by_rank = True  # for rank_states

        def init_state(self, group: Any, p: Any, gindex: int, pindex: int) -> None:
            with self._plain(p) as plain:
                super().init_state(group, plain, gindex, pindex)

        def update_step(self, group: Any, p: Any, gindex: int, pindex: int) -> None:
            with self._plain(p) as plain, self._exact(plain) as exact:
                if plain.numel():  # a short weight has no row for the last ranks
                    super().update_step(group, exact, gindex, pindex)

        @contextmanager
        def _exact(self, plain: Any) -> Iterator[Any]:
            """A float32 copy of a bfloat16 weight, which is rounded at random afterwards."""
            if plain.dtype != torch.bfloat16:
                yield plain
                return
            exact = plain.detach().float()
            exact.grad = plain.grad.float()
            self.state[exact] = self.state[plain]
            try:
                yield exact
            finally:
                del self.state[exact]
            plain.data.copy_(rounded(exact, plain.dtype))

        @contextmanager
        def _plain(self, p: Any) -> Iterator[Any]:
            is_sharded = isinstance(p, DTensor)
            if not is_sharded:
                yield p
                return
            plain = p.to_local()
            plain.grad = None if p.grad is None else p.grad.to_local()
            self.state[plain] = self.state[p]  # one dict: what is added to it stays
            try:
                yield plain
            finally:
                del self.state[plain]

    return OnShards
