"""Training on several devices: ranks as processes of their own, so that sweeps and pipelines stay what they are.

Where ``trainer.devices`` asks for more than one, the stage starts a process for each and listens to rank 0. Under
torchrun or SLURM every rank runs the door instead: rank 0 as ever, the others beside the artifact that rank 0 makes
(``make.follow``). Ranks of our own making are not left to torchrun because it kills them 30 seconds after a signal,
when a large checkpoint is not written yet, and because they must die with the door that holds the artifact's lock.
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn, Protocol

from micota.artifacts import ArtifactError, Build
from micota.config import Config, ConfigError
from micota.records import Node

HANDOVER = "ranks.pickle"
MARK = "micota-event "
PR_SET_PDEATHSIG = 1  # of prctl(2)


class Watcher(Protocol):
    """Who is told how training goes."""

    def begin(self, total: int) -> None: ...

    def step(self, metrics: Mapping[str, float], step: int) -> None: ...


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
                "torchrun or srun on every node (docs/clusters.md)"
            )
        return
    started = int(os.environ.get("WORLD_SIZE") or os.environ["SLURM_NTASKS"])
    if started != trainer.world_size:
        raise ConfigError(
            f"the launcher started {started} processes, but trainer.devices={trainer.devices} x "
            f"trainer.num_nodes={trainer.num_nodes} is {trainer.world_size}; make them equal"
        )


def launch(config: Config, node: Node, build: Build, watcher: Watcher) -> None:
    """Run the stage of ``node`` in ``trainer.devices`` processes, and take over what rank 0 found.

    Raises:
        ArtifactError: a rank failed; the text has what it said.
    """
    handover = build.path / HANDOVER
    handover.write_bytes(pickle.dumps((config, node)))
    with ExitStack() as stack:
        errors = [
            stack.enter_context(open(build.path / f"rank{rank}.txt", "w+")) for rank in range(config.trainer.devices)
        ]
        processes = list(_start(config, handover, errors))
        stack.callback(_end, processes)
        stack.enter_context(_passing_on(processes))
        threading.Thread(target=_end_with_the_first_that_fails, args=(processes,), daemon=True).start()
        listening = processes[0].stdout
        assert listening is not None
        for line in listening:
            if line.startswith(MARK):
                _take(json.loads(line.removeprefix(MARK)), build, watcher)
        codes = [process.wait() for process in processes]
        if any(codes):
            _fail(codes, errors)
    for file in [handover, *(build.path / f"rank{rank}.txt" for rank in range(config.trainer.devices))]:
        file.unlink()


def _start(config: Config, handover: Path, errors: list[Any]) -> Iterator[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = config.trainer.devices
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
    }
    common["OMP_NUM_THREADS"] = str(config.num_threads or os.environ.get("OMP_NUM_THREADS", 1))
    for rank in range(world):
        yield subprocess.Popen(
            [sys.executable, "-m", "micota.stages.ranks", str(handover)],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
            stderr=errors[rank],
            text=True,
            start_new_session=True,  # the terminal's Ctrl-C comes through us, once
        )


def _end(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.kill()
        process.wait()


def _end_with_the_first_that_fails(processes: list[subprocess.Popen[str]]) -> None:
    """The others would wait for it in vain."""
    failed = threading.Event()

    def watch(process: subprocess.Popen[str]) -> None:
        if process.wait():
            failed.set()

    for process in processes:
        threading.Thread(target=watch, args=(process,), daemon=True).start()
    failed.wait()
    for process in processes:
        try:
            process.wait(timeout=10)  # that may be about to say what is wrong, too
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def _passing_on(processes: list[subprocess.Popen[str]]) -> Iterator[None]:
    """Hand signals that ask to stop to the ranks, which write a checkpoint first."""

    def pass_on(signum: int, _frame: Any) -> None:
        for process in processes:
            process.send_signal(signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, pass_on) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _take(event: dict[str, Any], build: Build, watcher: Watcher) -> None:
    """What rank 0 says: how many steps there are, metrics of a step, or what belongs into the manifest."""
    if "total" in event:
        watcher.begin(event["total"])
    elif "step" in event:
        watcher.step(event["metrics"], event["step"])
    else:
        build.counts |= event["counts"]
        build.metrics |= event["metrics"]


def _fail(codes: list[int], errors: list[Any]) -> NoReturn:
    said = []
    for file in errors:
        file.seek(0)
        said += [line.strip() for line in file if line.strip()]
    for line in said:
        if line.startswith("error: "):
            raise ArtifactError(line.removeprefix("error: "))
        if line.startswith("stopped by "):
            stop(128 + int(line.rsplit(" ", 1)[1]), line.rsplit(",", 1)[0])
    raise ArtifactError(f"training processes ended with {codes}; the last words were: {said[-1] if said else 'none'}")


def stop(code: int, words: str) -> NoReturn:
    """End a door that a signal stopped, with the exit code that shells give such a process."""
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt(words)
    print(f"{words}; the same command goes on from here", file=sys.stderr)
    sys.exit(code)


class Events:
    """Rank 0 speaks to the door that started it; the other ranks keep quiet."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def begin(self, total: int) -> None:
        self.say(total=total)

    def step(self, metrics: Mapping[str, float], step: int) -> None:
        self.say(step=step, metrics=dict(metrics))

    def say(self, **event: Any) -> None:
        if self.rank == 0:
            print(MARK + json.dumps(event), flush=True)


def main() -> None:
    """One rank: what to do is in the file named on the command line, who we are in the environment."""
    if sys.platform == "linux":  # a door that is killed takes its ranks with it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    from rich.console import Console

    from micota.artifacts import Store
    from micota.console import quieten
    from micota.sft.checkpoints import StoppedError
    from micota.stages.make import Work
    from micota.stages.train import fit_here
    from micota.tracking import NoRun

    quieten()
    handover = Path(sys.argv[1])
    config, node = pickle.loads(handover.read_bytes())
    build = Build(handover.parent)
    events = Events(int(os.environ["RANK"]))
    work = Work(config, Store(config.artifacts), node, build, NoRun(), Console(quiet=True))
    try:
        fit_here(work, events)
    except (ValueError, OSError) as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    except StoppedError as stopped:
        print(f"{stopped}, {int(stopped.signum)}", file=sys.stderr)
        sys.exit(128 + stopped.signum)
    events.say(counts=build.counts, metrics=build.metrics)


if __name__ == "__main__":
    main()
