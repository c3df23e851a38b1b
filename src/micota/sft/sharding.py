"""Weights, gradients and optimiser states in shards, one per rank (FSDP2: ``torch.distributed.fsdp.fully_shard``).

FSDP2 through Lightning's ``ModelParallelStrategy``, not FSDP1 through its ``FSDPStrategy``. The latter refuses CPUs, so
that tests would need GPUs. It also flattens weights: weight decay on matrices alone, frozen weights beside adapters and
streamed export would each need a workaround.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.load import _METADATA_FILENAME as METADATA
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load as load_shards
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor

from micota.config import TrainerConfig
from micota.sft.checkpoints import StreamedCheckpoints, trained_state


class Sharding(ModelParallelStrategy):
    """Lightning's strategy on running ranks; offloaded weights stay on the CPU."""

    def __init__(self, trainer: TrainerConfig) -> None:
        # Offloaded gradients are summed and saved on the CPU, which NCCL does not support.
        backend = "gloo" if trainer.accelerator == "cpu" else "cpu:gloo,cuda:nccl" if trainer.cpu_offload else None
        super().__init__(
            data_parallel_size=trainer.world_size,
            tensor_parallel_size=1,
            save_distributed_checkpoint=True,
            process_group_backend=backend,
        )
        self._offloads = trainer.cpu_offload

    def model_to_device(self) -> None:
        if not self._offloads:
            super().model_to_device()
            return
        assert self.model is not None
        # FSDP2 moves offloaded weights when it gathers them, and does not handle buffers.
        for buffer in self.model.buffers():
            buffer.data = buffer.data.to(self.root_device)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load shards as Lightning does, but without frozen weights, which Lightning expects in a checkpoint."""
        path, model = Path(self.broadcast(checkpoint_path)), self.model
        assert model is not None and self.lightning_module is not None
        # DCP loads in place into the tensors of a state dict, and fails for a name that the checkpoint lacks.
        weights = {"state_dict": trained_state(model, get_model_state_dict(model))}
        load_shards(weights, checkpoint_id=path)
        model.load_state_dict(weights["state_dict"], strict=self.lightning_module.strict_loading)
        for index, optimizer in enumerate(self.optimizers):
            state = {f"optimizer_{index}": get_optimizer_state_dict(model, optimizer)}
            load_shards(state, checkpoint_id=path)
            options = StateDictOptions(cpu_offload=True)
            set_optimizer_state_dict(model, optimizer, optim_state_dict=state[f"optimizer_{index}"], options=options)
        rest: dict[str, Any] = torch.load(path / METADATA, weights_only=weights_only)
        return rest


def devices(config: TrainerConfig) -> dict[str, Any]:
    """Settings of Lightning's Trainer for one device, or for the running ranks."""
    if config.world_size == 1:
        precision = config.precision if config.precision == "bf16-mixed" else "32-true"
        return {"devices": 1, "precision": precision, "plugins": [StreamedCheckpoints()]}
    environment: ClusterEnvironment = (
        SLURMEnvironment(auto_requeue=False) if "WORLD_SIZE" not in os.environ else TorchElasticEnvironment()
    )
    ranks = {"devices": config.num_devices, "num_nodes": config.num_nodes, "plugins": [environment]}
    return ranks | {"strategy": Sharding(config)}


def layers(model: Any) -> list[torch.nn.Module]:
    """The transformer layers of a Hugging Face model: the modules that it declares not to be split."""
    names = set(model._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def shard(objective: Any, mesh: DeviceMesh, trainer: TrainerConfig) -> None:
    """Shard each layer, and then the rest (embedding, last norm and output head, which the loss needs whole).

    With ``bf16-mixed`` the shards are float32, computation is bfloat16 and gradients are summed over ranks in float32.
    """
    if isinstance(objective, FSDPModule):
        return
    policy = (
        MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        if trainer.precision == "bf16-mixed"
        else MixedPrecisionPolicy()
    )
    offload = CPUOffloadPolicy() if trainer.cpu_offload else OffloadPolicy()
    # A unit of sharding is gathered at a time: a layer, so that the next is gathered while one computes.
    for layer in layers(objective.model):
        fully_shard(layer, mesh=mesh, mp_policy=policy, offload_policy=offload)
    fully_shard(objective, mesh=mesh, mp_policy=policy, offload_policy=offload)


def local(value: torch.Tensor) -> torch.Tensor:
    """This rank's part of a weight."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole(value: torch.Tensor) -> torch.Tensor:
    """A whole weight from its shards; every rank must call this function."""
    return value.full_tensor() if isinstance(value, DTensor) else value
