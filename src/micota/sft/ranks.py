"""Lightning's view of the rank of this process, and the device that it computes on.

Lightning lists the devices of a machine, and takes the one at the local rank. A task of SLURM may see its own GPU
alone, though, so each rank here passes its device alone.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from micota.config import TrainerConfig


class _OneDevice:
    """Of an environment: this rank's device is the first of its list, which has no other."""

    def local_rank(self) -> int:
        return 0

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """``check_launch`` compares the ranks of the launcher with the config."""


class SlurmRank(_OneDevice, SLURMEnvironment):
    """A rank that srun started."""


class ElasticRank(_OneDevice, TorchElasticEnvironment):
    """A rank that torchrun or ``micota.runtime.launch`` started."""


class OneProcess(_OneDevice, LightningEnvironment):
    """The environment of one process without ranks. Lightning's own would set the variables of ranks for good."""

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def teardown(self) -> None: ...


def environment(trainer: TrainerConfig) -> ClusterEnvironment:
    """The environment of this process: alone, or a rank of torchrun, SLURM or this package."""
    if trainer.world_size == 1:
        return OneProcess()
    return ElasticRank() if "WORLD_SIZE" in os.environ else SlurmRank(auto_requeue=False)


def device(trainer: TrainerConfig) -> dict[str, Any]:
    """Settings of Lightning's Trainer for the device of this rank: the GPU at its local rank, or the only one that it
    sees, as with SLURM's ``--gpus-per-task=1``."""
    if trainer.accelerator == "cpu" or trainer.world_size == 1:
        return {"devices": 1, "num_nodes": trainer.num_nodes}
    local = int(os.environ["LOCAL_RANK"] if "WORLD_SIZE" in os.environ else os.environ["SLURM_LOCALID"])
    return {"devices": [local if torch.cuda.device_count() > 1 else 0], "num_nodes": trainer.num_nodes}
