"""Which rank of a distributed run this process is, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from micota.config import Config
from micota.errors import ConfigError


def outer_rank() -> int | None:
    """This process' rank under torchrun or SLURM's srun; None where it is a process on its own."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return int(os.environ["RANK"])
    if (
        int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_ID" in os.environ
    ):  # in srun, not in sbatch's script
        return int(os.environ["SLURM_PROCID"])
    return None


def check_launch(config: Config) -> None:
    """Refuse a launcher that started another number of ranks than the trainer shards over.

    Raises:
        ConfigError: the text names both numbers.
    """
    trainer = config.trainer
    if outer_rank() is None:
        if trainer.num_nodes > 1:
            raise ConfigError(
                f"trainer.num_nodes={trainer.num_nodes} needs a launcher that reaches them: run this command under "
                "torchrun or srun on every node (docs/how-to/clusters.md)"
            )
        return
    started = int(os.environ.get("WORLD_SIZE") or os.environ["SLURM_NTASKS"])
    if started != trainer.world_size:
        raise ConfigError(
            f"the launcher started {started} processes, but trainer.devices={trainer.devices} x "
            f"trainer.num_nodes={trainer.num_nodes} is {trainer.world_size}; make them equal"
        )


def stop(code: int, words: str) -> NoReturn:
    """End a command that a signal stopped, with the exit code that shells give such a process."""
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt(words)
    print(f"{words}; the same command goes on from here", file=sys.stderr)
    sys.exit(code)
