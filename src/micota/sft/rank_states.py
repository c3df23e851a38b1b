"""Optimiser states that stay with their rank: those of bitsandbytes over several devices.

Its moments belong to blocks of 256 weights of a rank's shard, and have no place in whole weights. Each rank writes its
states to a file of its own in the checkpoint, and reads it again; another number of ranks has other blocks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from micota.errors import ConfigError

NAME = "__{}_states.pt"  # of a rank, beside the shards of torch.distributed.checkpoint


def stay(optimizer: Any, world_size: int) -> bool:
    """Whether the states of an optimiser stay with their rank."""
    return world_size > 1 and bool(getattr(optimizer, "is_by_rank", False))


def check(folder: Path, optimizers: list[Any], world_size: int) -> None:
    """Refuse a checkpoint with the states of another number of ranks.

    Raises:
        ConfigError: the text has both numbers.
    """
    number = len([*folder.glob(NAME.format("*"))])
    wanted = world_size if any(stay(optimizer, world_size) for optimizer in optimizers) else 0
    if number != wanted:
        seen, wants = (f"the moments of {n} devices" if n else "moments of one device" for n in (number, wanted))
        raise ConfigError(
            f"{folder} has {seen}, and this run needs {wants}: moments of bitsandbytes (sft.optimizer) belong to the "
            f"shards of a number of devices; set trainer.devices as before, or delete {folder.parent} to start over"
        )


def save(folder: Path, rank: int, states: list[Any]) -> None:
    """Write the states of one rank: the state dicts of its optimisers."""
    torch.save(states, folder / NAME.format(rank))


def load(folder: Path, rank: int, optimizers: list[Any]) -> None:
    """Read them again."""
    states = torch.load(folder / NAME.format(rank), map_location="cpu", weights_only=True)
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict(state)
