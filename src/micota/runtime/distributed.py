"""The rank of this process in a distributed run, and the end of a run that a signal stops."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any, NoReturn

from micota.config import Config
from micota.errors import ConfigError
from micota.processes import end_with_parent


def outer_rank() -> int | None:
    """The rank of this process under torchrun or SLURM's srun; None outside both."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return int(os.environ["RANK"])
    if (
        int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_ID" in os.environ
    ):  # in srun, not in sbatch's script
        return int(os.environ["SLURM_PROCID"])
    return None


STARTER = "MICOTA_STARTED_BY"


def started_by_this_process() -> dict[str, str]:
    """The environment of a command that is to end with this process; what that command starts does not inherit it."""
    return os.environ | {STARTER: str(os.getpid())}


def follow_starter() -> None:
    """End with the process that started this one, where it wants that: else a killed pipeline would leave a stage at
    work, which holds the lock of what it makes. SIGTERM, since training writes a checkpoint at it."""
    starter = os.environ.pop(STARTER, None)
    if starter is None:
        return
    end_with_parent(signal.SIGTERM)
    if os.getppid() != int(starter):  # it ended before the kernel knew
        sys.exit(128 + signal.SIGTERM)


def note_sigterm() -> None:
    """Print a line when SIGTERM ends this process, which it does as if nobody had noted it. Training, which writes a
    checkpoint first, has a handler of its own; so has a job of submitit."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return
    owner = os.getpid()

    def note(signum: int, _frame: Any) -> None:
        if os.getpid() == owner:  # not in its forks
            os.write(2, b"stopped by SIGTERM; the same command goes on from here\n")
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    signal.signal(signal.SIGTERM, note)


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
    print(f"{text}; the same command goes on from here", file=sys.stderr)
    if code == 128 + signal.SIGUSR2:  # to submitit's handler, which puts the job back into the queue and exits
        signal.raise_signal(signal.SIGUSR2)
    sys.exit(code)
