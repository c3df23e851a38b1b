"""Training on several devices: the stage starts one process for each rank.

With ``trainer.devices`` above one, the stage starts the processes and reads the events of rank 0. Under torchrun or
SLURM every rank runs the command instead: rank 0 makes the artifact, and the others call ``execute.follow``. The stage
does not use torchrun, for two reasons: torchrun kills ranks 30 seconds after a signal, before a large checkpoint is
complete, and ranks must end with the command that holds the lock of the artifact.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from rich.console import Console

from micota.artifacts.store import Build, Store
from micota.config import Config
from micota.console import quieten
from micota.errors import ERROR, LINES_SHOWN, USER_ERROR, ChildError, StageError, failure, is_users, named_by, text_of
from micota.graph.node import AnyNode
from micota.processes import end_with_starter, started_by_this_process
from micota.runtime.distributed import stop
from micota.runtime.full_memory import explained, full_memory, ways
from micota.runtime.work import Work
from micota.sft.callbacks import StoppedError, stop_signals
from micota.sft.failures import PATIENCE_S, RECORDS, Failure, record, recorded
from micota.sft.progress import Progress
from micota.tracking import NoRun

HANDOVER = "ranks.pickle"
FAILURES = "ranks.failed.jsonl"
MARK = "micota-event "  # before each event on the stdout of rank 0


def launch(config: Config, node: AnyNode, build: Build, progress: Progress, module: str) -> None:
    """Run the stage of ``node`` in ``trainer.devices`` processes; counts and metrics of rank 0 go to ``build``.

    Args:
        progress: gets the events of rank 0.
        module: the main program of each process; it calls ``run_rank``.

    Raises:
        StageError: the rank that failed first did so with a user error, or was killed.
        ChildError: it failed with another exception; the text has its traceback.
    """
    failures = build.path / FAILURES
    failures.unlink(missing_ok=True)  # of a run that failed before
    with ExitStack() as stack:
        # In a folder that this user alone can write to: what ranks unpickle could run any code, and artifacts may be
        # on a disk that others share.
        handover = Path(stack.enter_context(TemporaryDirectory(prefix="micota-"))) / HANDOVER
        handover.write_bytes(pickle.dumps((config, node)))
        errors = [
            stack.enter_context(open(build.path / f"rank{rank}.txt", "w+"))
            for rank in range(config.trainer.num_devices)
        ]
        processes = list(_start(config, handover, build.path, errors, module))
        stack.callback(_end, processes)
        stack.enter_context(_passing_on(processes))
        first: Future[int] = Future()  # the rank that fails before others
        threading.Thread(target=_end_with_the_first_that_fails, args=(processes, first), daemon=True).start()
        output = processes[0].stdout
        assert output is not None
        for line in output:
            if line.startswith(MARK):
                _take(json.loads(line.removeprefix(MARK)), build, progress)
        codes = [process.wait() for process in processes]
        if any(codes):
            _fail(config, node, codes, errors, first.result(), recorded(failures))
    for rank in range(config.trainer.num_devices):
        (build.path / f"rank{rank}.txt").unlink()


def _start(
    config: Config, handover: Path, folder: Path, errors: list[Any], module: str
) -> Iterator[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = config.trainer.num_devices
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        RECORDS: str(folder / FAILURES),
    }
    # Not the variables of a torchrun around this command: ranks would wait for its store.
    inherited = {
        name: value for name, value in started_by_this_process().items() if not name.startswith("TORCHELASTIC_")
    }
    common["OMP_NUM_THREADS"] = str(config.num_threads or os.environ.get("OMP_NUM_THREADS", 1))
    for rank in range(world):
        yield subprocess.Popen(
            [sys.executable, "-m", module, str(handover), str(folder)],
            env=inherited | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
            stderr=errors[rank],
            text=True,
            start_new_session=True,  # else Ctrl-C in the terminal would reach ranks twice: directly and from here
        )


def _end(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.kill()
        process.wait()


def _end_with_the_first_that_fails(processes: list[subprocess.Popen[str]], first: Future[int]) -> None:
    """Wait for the ``first`` process that fails, then end the others: they would wait for it in collective calls."""

    def wait_for(rank: int, process: subprocess.Popen[str]) -> None:
        if process.wait():
            with suppress(InvalidStateError):  # another one was first
                first.set_result(rank)

    for rank, process in enumerate(processes):
        threading.Thread(target=wait_for, args=(rank, process), daemon=True).start()
    first.result()
    deadline = time.monotonic() + PATIENCE_S
    for process in processes:
        try:
            # It may fail for the same reason, and print its error.
            process.wait(timeout=max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def _passing_on(processes: list[subprocess.Popen[str]]) -> Iterator[None]:
    """Pass SIGTERM and SIGINT on to the ranks, which save a checkpoint before they end. So does the signal of a job
    whose time is over (see ``stop_signals``); submitit gets it when they have ended."""
    announced = False

    def pass_on(signum: int, _frame: Any) -> None:
        nonlocal announced
        announced |= signum == signal.SIGUSR2
        for process in processes:
            process.send_signal(signal.SIGTERM if signum == signal.SIGUSR2 else signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, pass_on) for signum in stop_signals()}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        if announced:
            signal.raise_signal(signal.SIGUSR2)


def _take(event: dict[str, Any], build: Build, progress: Progress) -> None:
    """Handle an event of rank 0: the number of steps, the metrics of a step, or counts and metrics for the manifest."""
    if "total" in event:
        progress.begin(event["total"])
    elif "step" in event:
        progress.step(event["metrics"], event["step"])
    else:
        build.counts |= event["counts"]
        build.metrics |= event["metrics"]


def _fail(
    config: Config, node: AnyNode, codes: list[int], errors: list[Any], first: int, failures: list[Failure]
) -> NoReturn:
    """Raise the error of the rank that failed first.

    Args:
        errors: of each rank the file of its stderr.
        first: the rank that ended first of those that failed.
        failures: records of the ranks that left one, the first failure first.

    Raises:
        StageError: the rank failed with a user error, or was killed.
        MachineError: its memory was full.
        ChildError: it failed with another exception; the text has its traceback.
    """
    printed = []
    for file in errors:
        file.seek(0)
        printed.append(file.read())
    for text in printed:
        for line in text.splitlines():
            if line.startswith("stopped by "):
                stop(128 + int(line.rsplit(" ", 1)[1]), line.rsplit(",", 1)[0])
    if codes[first] < 0:  # killed, for want of memory or by a user: errors of the others say that they lost it
        raise failure(f"training process {first}", codes[first], "")
    failed = failures[0].rank if failures else first
    if failures and failures[0].full_memory:
        raise full_memory(failures[0].full_memory, node, ways(config.trainer), failed)
    for line in printed[failed].splitlines():
        if codes[failed] == USER_ERROR and line.startswith(ERROR):
            raise StageError(line.removeprefix(ERROR))
    text = printed[failed]
    if failures and failures[0].text.strip().splitlines()[-1] not in text:  # it had to be ended before it printed that
        text = failures[0].text
    lines = "\n".join(text.strip().splitlines()[-LINES_SHOWN:])
    raise ChildError(f"training process {failed} failed before the others:\n{lines}")


class Events:
    """Progress of a rank. Rank 0 sends it to the command that started it; the other ranks send nothing."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def begin(self, total: int) -> None:
        self.send(total=total)

    def step(self, metrics: Mapping[str, float], step: int) -> None:
        self.send(step=step, metrics=dict(metrics))

    def send(self, **event: Any) -> None:
        if self.rank == 0:
            print(MARK + json.dumps(event), flush=True)


def run_rank(fit: Callable[[Work[Any], Events], None]) -> None:
    """The main program of one rank: config and node come from the file on the command line, before the folder of the
    artifact, and the rank from ``RANK``."""
    end_with_starter(signal.SIGKILL)  # a command that is killed takes its ranks with it
    quieten()
    handover = Path(sys.argv[1])
    config, node = pickle.loads(handover.read_bytes())
    build = Build(Path(sys.argv[2]))
    events = Events(int(os.environ["RANK"]))
    work = Work(config, Store(config.artifacts), node, build, NoRun(), Console(quiet=True))
    try:
        fit(work, events)
    except StoppedError as stopped:
        print(f"{stopped}, {int(stopped.signum)}", file=sys.stderr)
        sys.exit(128 + stopped.signum)
    except Exception as error:
        cause = explained(named_by(build.path, error), config, node, trains=True, rank=events.rank)
        if not is_users(cause):
            record(error)
            raise
        print(ERROR + text_of(cause), file=sys.stderr, flush=True)
        record(cause)
        sys.exit(USER_ERROR)
    events.send(counts=build.counts, metrics=build.metrics)
