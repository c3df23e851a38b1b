from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from micota.config import TrainerConfig
from micota.sft import ranks

TASK = {"SLURM_NTASKS": "16", "SLURM_PROCID": "11", "SLURM_LOCALID": "3", "SLURM_NODEID": "1", "SLURM_STEP_ID": "0"}
FSDP = TrainerConfig(name="fsdp", accelerator="gpu", precision="bf16-mixed", devices=8, num_nodes=2)


@pytest.mark.parametrize(("visible", "index"), [(8, 3), (1, 0)])
def test_a_task_of_slurm_computes_on_its_gpu_whether_it_sees_all_or_its_own(
    monkeypatch: pytest.MonkeyPatch, visible: int, index: int
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, value in (TASK | {"SLURM_NTASKS_PER_NODE": "8"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    environment = ranks.environment(FSDP)
    assert isinstance(environment, ranks.SlurmRank)
    assert ranks.device(FSDP) == {"devices": [index], "num_nodes": 2}
    # The list of devices that Lightning gets has one entry, which is at this index.
    assert environment.local_rank() == 0 and (environment.global_rank(), environment.world_size()) == (11, 16)
    environment.validate_settings(1, 2)  # Lightning's own would refuse one device beside eight tasks


def test_lightning_takes_the_device_that_it_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Lightning's own choice of devices, on a machine that has eight GPUs by the look of it."""
    for name, value in {"WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "5", "LOCAL_WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    for name, answer in {"device_count": 8, "is_available": True, "set_device": None}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr("lightning.fabric.accelerators.cuda.num_cuda_devices", lambda: 8)
    monkeypatch.setattr("lightning.fabric.accelerators.cuda._check_cuda_matmul_precision", lambda device: None)
    config = TrainerConfig(name="fsdp", accelerator="gpu", precision="bf16-mixed", devices=8)
    from micota.sft.sharding import devices

    settings: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="gpu", max_epochs=1, **settings, **devices(config))
    assert trainer.strategy.root_device == torch.device("cuda", 5)
    assert (trainer.global_rank, trainer.world_size) == (5, 8)
