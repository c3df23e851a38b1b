from __future__ import annotations

import os

import pytest
from torch import distributed

from micota.config import TrainerConfig
from micota.sft.sharding import in_this_process

GPU = TrainerConfig(name="gpu", accelerator="gpu", precision="bf16-mixed")
CPU = TrainerConfig(name="cpu", accelerator="cpu", precision="32-true")


def test_segments_of_memory_grow_while_a_gpu_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    with in_this_process(GPU):
        assert os.environ["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert "PYTORCH_ALLOC_CONF" not in os.environ  # what runs next may not support it
    with in_this_process(CPU):
        assert "PYTORCH_ALLOC_CONF" not in os.environ


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_the_allocator_that_a_user_set_up_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "max_split_size_mb:512")
    before = dict(os.environ)
    with in_this_process(GPU):
        assert dict(os.environ) == before
    assert dict(os.environ) == before


def test_no_process_group_is_left_of_a_run_that_fails() -> None:
    with pytest.raises(RuntimeError, match="out of memory"), in_this_process(GPU):
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
        raise RuntimeError("out of memory")
    assert not distributed.is_initialized()
