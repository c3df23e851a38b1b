"""Peak memory of a training step from its operations, with tensors that have sizes and no data (FakeTensor).

It counts what live tensors hold, on a mesh of any number of ranks (torch's fake process group), with the step of
``micota.sft`` itself: FSDP2, activation checkpointing, PyTorch's variable-length attention, the chunked loss, AdamW.
It counts neither the context of CUDA nor fragmentation.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.models.auto import AutoModelForCausalLM

from micota.config import TrainerConfig
from micota.sft import losses
from micota.sft.activation_checkpointing import ActivationCheckpointing
from micota.sft.activations import CHUNK_LOGITS
from micota.sft.attention import implementation
from micota.sft.sharding import reduce_gradients, shard
from micota.sft.skeletons import DTYPES


class Counter(TorchDispatchMode):
    """Bytes of all live storages, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor)
        return result

    def add(self, tensor: torch.Tensor) -> None:
        tensor = getattr(tensor, "_local_tensor", tensor)
        if tensor.device.type == "meta":
            return
        storage = tensor.untyped_storage()
        if storage._cdata not in self._sizes:
            weakref.finalize(storage, self._set, storage._cdata, None)
            self._set(storage._cdata, storage.nbytes())

    def resize(self, tensor: torch.Tensor, size: int) -> None:
        """FSDP2 frees the storage of a gathered weight, and keeps the tensor. A fake storage cannot be resized."""
        key = tensor.untyped_storage()._cdata
        if key in self._sizes:
            self._set(key, size)

    def _set(self, key: int, size: int | None) -> None:
        self.live += (size or 0) - self._sizes.pop(key, 0)
        if size is not None:
            self._sizes[key] = size
        self.peak = max(self.peak, self.live)


@contextmanager
def mesh_of(ranks: int, patch: pytest.MonkeyPatch, counter: Counter) -> Iterator[Any]:
    """A mesh of ranks that exchange nothing; FSDP2's frees and allocations are counted."""
    module = "torch.distributed.fsdp._fully_shard._fsdp_param"
    patch.setattr(f"{module}.alloc_storage", lambda tensor: counter.resize(tensor, tensor.numel() * tensor.itemsize))
    patch.setattr(f"{module}.free_storage", lambda tensor: counter.resize(tensor, 0))
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
    try:
        yield init_device_mesh("cpu", (ranks,))
    finally:
        dist.destroy_process_group()


def peak_bytes(
    config: Any,
    trainer: TrainerConfig,
    kind: str,
    tokens: int,
    patch: pytest.MonkeyPatch,
    adapt: Callable[[Any], Any] | None = None,
    make: Callable[[Any, str, ActivationCheckpointing], losses.Objective] = losses.Objective,
) -> int:
    """The peak of a device over two micro-batches of one sequence of ``tokens`` (the second adds to gradients).

    Args:
        config: transformers' config of the model.
        trainer: its precision, number of devices and reduction of gradients.
        kind: of activation checkpointing.
        adapt: adds adapters to the model, or gives it other kernels.
        make: the model with its loss.
    """
    patch.setitem(CHUNK_LOGITS, "cpu", CHUNK_LOGITS["cuda"])
    gc.collect()
    counter = Counter()
    with mesh_of(trainer.world_size, patch, counter) as mesh, FakeTensorMode(allow_non_fake_inputs=True), counter:
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(
                config, attn_implementation=implementation("varlen"), dtype=DTYPES[trainer.precision]
            )
            if adapt is not None:
                adapt(model)
        objective = make(model.train(), "chunked", ActivationCheckpointing(model, {kind: tokens}))
        shard(objective, mesh, trainer)
        objective.to_empty(device="cpu")
        if config.tie_word_embeddings:
            model.lm_head.weight = model.model.embed_tokens.weight
        weights = [weight for weight in objective.parameters() if weight.requires_grad]
        states = [torch.zeros_like(weight.to_local(), dtype=torch.float32) for weight in weights for _ in range(2)]
        for reduces in (trainer.gradient_reduction != "step", True):
            reduce_gradients(objective, reduces)
            losses_of(objective, tokens).backward()
        assert len(states) == 2 * len(weights)
    return counter.peak


def losses_of(objective: losses.Objective, tokens: int) -> torch.Tensor:
    batch = {
        "input_ids": torch.ones(1, tokens, dtype=torch.long),
        "position_ids": torch.arange(tokens)[None],
        "labels": torch.full((1, tokens), 5),
        "labelled": torch.arange(tokens),
    }
    borders = torch.tensor([0, tokens], dtype=torch.int32)
    edges = {"lengths": [tokens], "cu_seq_lens_q": borders, "max_length_q": tokens}
    loss: torch.Tensor = objective(batch, edges, float(tokens))
    return loss
