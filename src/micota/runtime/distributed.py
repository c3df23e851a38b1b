"""The rank of this process in a distributed run, and the end of a run that a signal stops."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from micota.config import Config
from micota.errors import ConfigError
from micota.processes import GOES_ON


def outer_rank() -> int | None:
    """The rank of this process under torchrun or SLURM's srun; None outside both."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return int(os.environ["RANK"])
    if (
        int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_ID" in os.environ
    ):  # in srun, not in sbatch's script
        return int(os.environ["SLURM_PROCID"])
    return None


def check_launch(config: Config) -> None:
    """Refuse a launcher that started a number of ranks other than ``trainer.world_size``.

    Raises:
        ConfigError: the text names both numbers.
    """
    trainer = config.trainer
    of_torchrun = "TORCHELASTIC_RUN_ID" in os.environ  # also where it starts one process
    if outer_rank() is None and not (of_torchrun and trainer.world_size > 1):
        if trainer.num_nodes > 1:
            raise ConfigError(
                f"trainer.num_nodes={trainer.num_nodes} needs a launcher that reaches them: run this command under "
                "torchrun or srun on every node (docs/how-to/clusters.md)"
            )
        return
    started = int(os.environ.get("WORLD_SIZE") or os.environ["SLURM_NTASKS"])
    if started != trainer.world_size:
        raise ConfigError(
            f"the launcher started {started} processes, but trainer.devices={trainer.num_devices} x "
            f"trainer.num_nodes={trainer.num_nodes} is {trainer.world_size}; make them equal"
        )


def stop(code: int, text: str) -> NoReturn:
    """End a command that a signal stopped.

    Args:
        code: 128 plus the number of the signal, as shells count it.
        text: what was stopped and when, for stderr.
    """
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt(text)
    print(f"{text}; {GOES_ON}", file=sys.stderr)
    if code == 128 + signal.SIGUSR2:  # to submitit's handler, which puts the job back into the queue and exits
        signal.raise_signal(signal.SIGUSR2)
    sys.exit(code)
