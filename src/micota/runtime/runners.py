"""Runners of a pipeline: they run the tasks of a graph here, in workers, in processes or as SLURM jobs."""

from __future__ import annotations

import importlib
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from graphlib import TopologicalSorter
from multiprocessing.process import BaseProcess
from typing import Any

from rich.console import Console
from rich.text import Text

from micota.artifacts.manifest import Manifest
from micota.artifacts.provenance import num_cores
from micota.artifacts.store import Store
from micota.config import Config, PipelineConfig, arguments_for, command_line
from micota.console import quieten
from micota.errors import ChildError, failure, is_users
from micota.graph.stage import stage_modules, stage_of
from micota.processes import started_by_this_process
from micota.runtime.execute import perform
from micota.runtime.gpus import AssignedGpus, visible_gpus
from micota.runtime.jobs import job_overrides, job_parameters, num_gpus
from micota.runtime.plan import Task
from micota.runtime.streaming import streaming

MAX_WORKERS = 4
JOIN_S = 10.0  # for a worker of a broken pool, which has ended or is about to
Runner = Callable[[Task], list[Manifest]]


def default_jobs(config: PipelineConfig) -> int:
    """The default number of stages at a time: on CPU the number of cores over ``num_threads``, else one."""
    if config.uses_gpu or config.num_threads is None or config.runner != "auto":
        return 1
    cores = num_cores()
    return max(1, min(MAX_WORKERS, cores // config.num_threads))


@contextmanager
def open_runner(
    config: PipelineConfig, jobs: int, store: Store, console: Console, configs: Mapping[str, Config]
) -> Iterator[Runner]:
    """A function that runs one task: in this process, in a pool of workers, in a new process, or as a SLURM job.

    Args:
        configs: the config for each node, by folder. The cases of an experiment may run in different ways.
    """
    kind = config.runner
    if kind == "auto":
        on_cpu = "inprocess" if jobs == 1 else "workers"
        kind = "subprocess" if config.uses_gpu else on_cpu
    if kind == "inprocess":
        yield lambda task: perform(configs[task.nodes[-1].folder], store, task, console)
    elif kind == "workers":
        # Forks of a server that has imported the stages once, for all workers. A fork of this process may hang, for it
        # has threads.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(stage_modules())
        arguments = (stage_modules(), dict(os.environ))
        known: dict[int, BaseProcess] = {}
        with (
            ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=arguments) as pool,
            streaming(lambda task: _in_pool(pool, known, configs[task.nodes[-1].folder], task), store, console) as run,
        ):
            yield run
    else:

        def launcher(task: Task) -> list[str]:
            if kind == "subprocess":
                return []
            return job_overrides(config.cluster, job_parameters(config, configs, task))

        # Stages that run one at a time see all GPUs.
        available = AssignedGpus(visible_gpus() if kind == "subprocess" and jobs > 1 else [])

        def start(task: Task) -> list[Manifest]:
            count = num_gpus(config, configs, task) if available else 0
            with available.assigned(count) as environment:
                return _in_process(launcher(task), config, store, task, environment)

        with streaming(start, store, console) as run:
            yield run


def _start_worker(modules: list[str], environment: dict[str, str]) -> None:
    """Set up a worker: import the modules with stages, and end it with the pipeline. A worker that outlives a killed
    pipeline would hold the lock of its build."""
    os.environ.clear()
    os.environ.update(environment)  # of the pipeline: the server may have been started with another
    quieten()
    try:
        for module in modules:
            importlib.import_module(module)
    except BaseException:
        traceback.print_exc()  # the pool reports only that it is broken
        raise
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _in_worker(config: Config, task: Task) -> list[Manifest]:
    try:
        return perform(config, Store(config.artifacts), task, Console(quiet=True))
    except Exception as error:
        if is_users(error):
            raise
        # As text: an exception that cannot be pickled would break the whole pool.
        raise ChildError(f"in a worker that ran {task.id}:\n{traceback.format_exc()}") from None


def _in_pool(pool: ProcessPoolExecutor, known: dict[int, BaseProcess], config: Config, task: Task) -> list[Manifest]:
    """Run a task in a pool.

    Args:
        known: the workers of the pool by process id, which a broken pool forgets; this function keeps it.
    """
    try:
        future = pool.submit(_in_worker, config, task)  # refused where a worker was killed between two tasks
        known.update(pool._processes or {})
        return future.result()
    except BrokenProcessPool as error:
        raise failure(f"the worker that ran {task.id}", _first_code(pool, list(known.values())), "") from error


def _first_code(pool: ProcessPoolExecutor, workers: Sequence[BaseProcess]) -> int:
    """The exit code of the worker that broke its pool, which then ends the others by SIGTERM; negative: a signal."""
    # The pool's thread waits for the workers. If two threads did, one would read 255 in place of the code.
    manager: Any = pool._executor_manager_thread
    if manager is not None:
        manager.join(JOIN_S)
    codes = [worker.exitcode for worker in workers if worker.exitcode]
    return next((code for code in codes if code != -signal.SIGTERM), -signal.SIGTERM)


def _in_process(
    launcher: list[str], config: Config, store: Store, task: Task, environment: dict[str, str]
) -> list[Manifest]:
    arguments = [*config.call.flags, *arguments_for(config.overrides, task.choose, task.command)]
    process = [sys.executable, "-m", "micota", task.command, *launcher, *arguments]
    variables = started_by_this_process() | environment
    finished = subprocess.run(process, capture_output=True, text=True, check=False, env=variables)
    if finished.returncode:
        line = command_line(config.call, task.command, task.choose)
        raise failure(line, finished.returncode, finished.stderr)
    return [manifest for node in task.nodes if (manifest := store.manifest(node)) is not None]


def run_tasks(
    tasks: list[Task], runner: Runner, jobs: int, console: Console, after: Callable[[], None] = lambda: None
) -> None:
    """Run tasks, up to ``jobs`` at a time, and stop at the first that fails; ``after`` is called after each.

    ``tasks`` are in an order in which each follows those that it needs. Of the tasks that can start, the one goes first
    on which most others depend.
    """
    lines = Lines(len(tasks), console)
    if jobs == 1:  # in the main thread, which receives Ctrl-C
        for task in tasks:
            lines.run(task, runner)
            after()
        return
    maker = {node.folder: task.id for task in tasks for node in task.nodes}
    by_id = {task.id: task for task in tasks}
    needs = {task.id: {maker[need] for need in task.needs() if need in maker} for task in tasks}
    waiting_for = dict.fromkeys(by_id, 0)
    for name in reversed(list(by_id)):
        for need in needs[name]:
            waiting_for[need] += 1 + waiting_for[name]
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    ready: list[str] = []
    running: dict[Future[None], str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        while sorter.is_active():
            ready = sorted([*ready, *sorter.get_ready()], key=lambda name: -waiting_for[name])
            while ready and len(running) < jobs:
                name = ready.pop(0)
                running[pool.submit(lines.run, by_id[name], runner)] = name
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
                after()
                sorter.done(running.pop(future))


class Lines:
    """One line for each finished task: number, command, seconds, headline."""

    def __init__(self, total: int, console: Console) -> None:
        self._numbers = itertools.count(1)
        self._total = total
        self._console = console

    def run(self, task: Task, runner: Runner) -> None:
        """Run the task and print its line."""
        start = time.perf_counter()
        manifests = runner(task)
        seconds = time.perf_counter() - start
        number = f"{next(self._numbers)}/{self._total}"
        self._console.print(Text(f"{number:>7}  {task.id:<36} {seconds:6.1f} s  {headline(task, manifests)}"))
        for url in {manifest.run for manifest in manifests[-1:] if "://" in manifest.run}:
            self._console.print(Text(f"{'tracked':>7}  {url}", "dim"))


def headline(task: Task, manifests: list[Manifest]) -> str:
    """The main figures of a task: those of the nodes that no other node of it is made from."""
    read = {child.folder for node in task.nodes for child in node.inputs.values()}
    nodes = [node for node in task.nodes if node.folder not in read]
    figures = {manifest.key: {**manifest.counts, **manifest.metrics} for manifest in manifests}
    return ", ".join(stage_of(node).headline(node, figures[node.key]) for node in nodes if node.key in figures)
