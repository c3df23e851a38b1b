"""Weights, gradients and optimiser states in shards, one per rank (FSDP2: ``torch.distributed.fsdp.fully_shard``).

FSDP2 through Lightning's ``ModelParallelStrategy``, not FSDP1 through its ``FSDPStrategy``. The latter refuses CPUs, so
that tests would need GPUs. It also flattens weights: weight decay on matrices alone, frozen weights beside adapters and
streamed export would each need a workaround.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.load import _METADATA_FILENAME as METADATA
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import distributed
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load as load_shards
from torch.distributed.checkpoint.state_dict_saver import save as save_shards
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from micota.config import TrainerConfig
from micota.sft import rank_states, ranks
from micota.sft.checkpoints import StreamedCheckpoints
from micota.sft.resharding import load_whole, trained_state
from micota.sft.shards import ShardPlanner, ShardReader, loading
from micota.sft.writing import Writing, save_synced

ALLOCATOR = {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"}  # the second is the older name


class Sharding(ModelParallelStrategy):
    """Lightning's strategy on running ranks, or on this process alone; offloaded weights stay on the CPU."""

    def __init__(self, trainer: TrainerConfig, writing: Writing | None = None) -> None:
        super().__init__(
            data_parallel_size=trainer.world_size,
            tensor_parallel_size=1,
            save_distributed_checkpoint=True,
            process_group_backend=backend(trainer),
        )
        self._offloads = trainer.cpu_offload
        self._is_alone = trainer.world_size == 1
        self._writing = writing or Writing(is_async=False)

    def setup_environment(self) -> None:
        if self._is_alone and not distributed.is_initialized():
            # Lightning would take a port, and leave its number in the environment for the next command.
            store = distributed.HashStore()  # type: ignore[attr-defined]
            distributed.init_process_group(self._get_process_group_backend(), store=store, rank=0, world_size=1)
        super().setup_environment()
        self._writing.setup_group()

    def model_to_device(self) -> None:
        if not self._offloads:
            super().model_to_device()
            return
        assert self.model is not None
        # FSDP2 moves offloaded weights when it gathers them, and does not handle buffers.
        for buffer in self.model.buffers():
            buffer.data = buffer.data.to(self.root_device)

    @property
    def _by_rank(self) -> bool:
        return any(rank_states.stay(optimizer, self.world_size) for optimizer in self.optimizers)

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        return {} if self._by_rank else super().optimizer_state(optimizer)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """As Lightning does, in the thread that writes checkpoints where there is one."""
        path = Path(self.broadcast(filepath))
        path.mkdir(parents=True, exist_ok=True)
        shards = {"state_dict": checkpoint.pop("state_dict")}
        states = checkpoint.pop("optimizer_states", [])
        shards |= {f"optimizer_{index}": state for index, state in enumerate(states)}
        if self.root_device.type == "cpu" or self._offloads:  # else Lightning has copied them from the device
            shards = self._writing.copied(shards)
        by_rank = [optimizer.state_dict() for optimizer in self.optimizers] if self._by_rank else None
        rest, by_rank = self._writing.copied((checkpoint, by_rank))
        self._writing.run(partial(self._write, shards, rest, by_rank, path))

    def _write(self, shards: dict[str, Any], rest: dict[str, Any], by_rank: list[Any] | None, path: Path) -> None:
        save_shards(shards, checkpoint_id=path, process_group=self._writing.group)
        if self.global_rank == 0:
            save_synced(rest, path / METADATA)
        if by_rank is not None:
            rank_states.save(path, self.global_rank, by_rank)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load shards as Lightning does, but without frozen weights, which Lightning expects in a checkpoint; or the
        file of a run of one process. Nothing in them is code, whatever ``weights_only`` says."""
        path, model = Path(self.broadcast(checkpoint_path)), self.model
        assert model is not None and self.lightning_module is not None
        if path.is_file():
            strict = self.lightning_module.strict_loading
            return load_whole(path, model, self.optimizers, strict=strict)
        rank_states.check(path, self.optimizers, self.world_size)
        with loading(path):
            return self._load_shards(path, model)

    def _load_shards(self, path: Path, model: torch.nn.Module) -> dict[str, Any]:
        assert self.lightning_module is not None
        # DCP loads in place into the tensors of a state dict, and fails for a name that the checkpoint lacks.
        weights = {"state_dict": trained_state(model, get_model_state_dict(model))}
        load_shards(weights, storage_reader=ShardReader(path), planner=ShardPlanner())
        model.load_state_dict(weights["state_dict"], strict=self.lightning_module.strict_loading)
        if self._by_rank:
            rank_states.load(path, self.global_rank, self.optimizers)
        for index, optimizer in enumerate([] if self._by_rank else self.optimizers):
            state = {f"optimizer_{index}": get_optimizer_state_dict(model, optimizer)}
            load_shards(state, storage_reader=ShardReader(path), planner=ShardPlanner())
            options = StateDictOptions(cpu_offload=True)
            set_optimizer_state_dict(model, optimizer, optim_state_dict=state[f"optimizer_{index}"], options=options)
        rest: dict[str, Any] = torch.load(path / METADATA, weights_only=True)
        return rest


def devices(config: TrainerConfig, writing: Writing | None = None) -> dict[str, Any]:
    """Settings of Lightning's Trainer for one CPU process, for one GPU, or for the running ranks."""
    if not config.is_sharded:
        precision = config.precision if config.precision == "bf16-mixed" else "32-true"
        plugin = StreamedCheckpoints(writing or Writing(is_async=False))
        return {"devices": 1, "precision": precision, "plugins": [plugin]}
    strategy = Sharding(config, writing)
    return ranks.device(config) | {"plugins": [ranks.environment(config)], "strategy": strategy}


def backend(trainer: TrainerConfig) -> str | None:
    """The backend of the process group; None is Lightning's choice for the device."""
    if trainer.accelerator == "cpu":
        return "gloo"
    # Offloaded gradients are summed and saved on the CPU, which NCCL does not support.
    return "cpu:gloo,cuda:nccl" if trainer.cpu_offload else None


@contextmanager
def in_this_process(trainer: TrainerConfig) -> Iterator[None]:
    """Leave nothing of a training run of one process to what the command does next, however training ends: neither a
    process group nor memory of the GPU, which another engine may want whole.

    Within, PyTorch's allocator grows its segments, unless the environment sets it up already: micro-batches differ in
    size, and segments of fixed sizes would leave gaps. It reads the variable once, when CUDA starts.
    """
    sets_up = trainer.accelerator == "gpu" and not ALLOCATOR & os.environ.keys()
    if sets_up:
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
    try:
        yield
    finally:
        if sets_up:  # processes of other engines choose for themselves
            del os.environ["PYTORCH_ALLOC_CONF"]
        if trainer.world_size == 1:
            if distributed.is_initialized():
                distributed.destroy_process_group()
            gc.collect()  # Lightning's trainer and module refer to each other
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.empty_cache()


def layers(model: Any) -> list[torch.nn.Module]:
    """The transformer layers of a Hugging Face model: the modules that it declares not to be split."""
    names = set(model._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def shard(objective: Any, mesh: DeviceMesh, trainer: TrainerConfig) -> None:
    """Shard each layer, the embedding and the output head, and then the rest: the last norm, or all of these where the
    head is the embedding too, which one unit must hold.

    With ``bf16-mixed`` the shards are float32, computation is bfloat16 and gradients are summed over ranks in float32;
    with ``bf16-true`` that holds for adapters.
    """
    if isinstance(objective, FSDPModule):
        return
    # Adapters are float32 beside a base in bfloat16 too, and their inputs and results would be cast to it.
    has_adapters = any(".lora_" in name for name, _ in objective.named_parameters())
    mixes = trainer.precision == "bf16-mixed" or (trainer.precision == "bf16-true" and has_adapters)
    policy = (
        MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        if mixes
        else MixedPrecisionPolicy()
    )
    offload = CPUOffloadPolicy() if trainer.cpu_offload else OffloadPolicy()
    shard_unit = partial(fully_shard, mesh=mesh, mp_policy=policy, offload_policy=offload)
    # A unit of sharding is gathered at a time: a layer, so that the next is gathered while one computes.
    for layer in layers(objective.model):
        shard_unit(layer)
    for module in outside_of_layers(objective.model):
        shard_unit(module)
        # Neither backward pass reads the weight: the loss has the gradients of the head already, and the embedding
        # adds rows. So the weight is gathered for the forward pass alone.
        module.set_unshard_in_backward(False)
        module.apply_within = _apply
        register_fsdp_forward_method(module, "apply_within")
    shard_unit(objective)


def outside_of_layers(model: Any) -> list[Any]:
    """The embedding and the output head, if they are units of sharding of their own: plain modules that share no
    weight."""
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    plain = all(type(module) in (torch.nn.Embedding, torch.nn.Linear) for module in ends)
    return ends if plain and ends[0].weight is not ends[1].weight else []


def within(module: Any, function: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    """``function(inputs)`` in place of the forward pass of a module: FSDP2 gathers its weights for that time, and sums
    their gradients after the backward pass of the result."""
    wrapped = getattr(module, "apply_within", _apply)  # of a unit of sharding
    result: torch.Tensor = wrapped(function, inputs)
    return result


def _apply(function: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    return function(inputs)


def reduce_gradients(objective: Any, reduces: bool) -> None:
    """Whether the next backward pass sums gradients over ranks into shards; else each rank adds to whole gradients of
    its own, in the dtype of the sum. A model that is not sharded has no such sum."""
    if isinstance(objective, FSDPModule):
        objective.set_requires_gradient_sync(reduces)


def local(value: torch.Tensor) -> torch.Tensor:
    """This rank's part of a weight."""
    return value.to_local() if isinstance(value, DTensor) else value


@contextmanager
def gathered(objective: Any) -> Iterator[None]:
    """Hold whole weights, in the dtype of computation, for calls of the model without its loss (generation).

    Outside of this block FSDP2 gathers what is not in layers for calls of ``objective`` alone. Every rank
    must enter it, after the first training step.
    """
    units = [module for module in objective.modules() if isinstance(module, FSDPModule)]
    for unit in units:
        unit.unshard()
    for layer in units[1:]:  # the first is the objective, which has all other weights
        layer.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for layer in units[1:]:
            layer.set_reshard_after_forward(True, recurse=False)
        for unit in units:
            unit.reshard()


def whole(value: torch.Tensor) -> torch.Tensor:
    """A whole weight from its shards; every rank must call this function."""
    return value.full_tensor() if isinstance(value, DTensor) else value
