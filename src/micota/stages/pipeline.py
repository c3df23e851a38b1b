"""The whole method: walk the graph, skip what is done, run each task where the runner says, show how it goes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from pathlib import Path

from rich.console import Console
from rich.text import Text

from micota.artifacts import Manifest, Store
from micota.config import Config, PipelineConfig, command
from micota.graph import comparison, unique
from micota.stages.make import Task, open_console, pending, perform, show_plan, tasks_of
from micota.stages.report import report

Runner = Callable[[Task], list[Manifest]]


class StageError(ValueError):
    """A stage that ran in a process of its own failed; the text has the end of what it said."""


def pipeline(config: PipelineConfig, arms: list[Config], console: Console | None = None) -> None:
    """Make everything that the comparison of ``arms`` needs, then report."""
    console = console or open_console()
    targets = comparison(arms).targets()
    store = Store(config.artifacts)
    if config.plan:
        show_plan(config, store, targets, console)
        return
    todo = pending(store, targets)
    cached = len(unique(targets)) - len(todo)
    console.print(Text(f"{config.name}: {cached} artifacts are there already, {len(todo)} to make", "bold"))
    run_tasks(tasks_of(todo), runner_for(config, store, console), config.jobs, console)
    report(config, arms, console)


def runner_for(config: PipelineConfig, store: Store, console: Console) -> Runner:
    """What runs one task: in this process, in a process of its own, or as a SLURM job."""
    kind = config.runner
    if kind == "auto":
        kind = "inprocess" if config.trainer.accelerator == "cpu" and config.jobs == 1 else "subprocess"
    if kind == "inprocess":
        return lambda task: perform(config, store, task, console)
    launcher = [] if kind == "subprocess" else ["-m", f"hydra/launcher=submitit_{config.cluster}"]

    def run(task: Task) -> list[Manifest]:
        # argv[0] is the door that runs now; its siblings are the other doors.
        door, *arguments = command(task.door, config.overrides, task.choose)
        process = [sys.executable, str(Path(sys.argv[0]).resolve().with_name(door)), *launcher, *arguments]
        finished = subprocess.run(process, capture_output=True, text=True, check=False)
        if finished.returncode:
            said = (finished.stderr.strip() or finished.stdout.strip()).splitlines()
            raise StageError(f"python {door} {' '.join(arguments)} failed: " + "\n".join(said[-20:]))
        return [manifest for node in task.nodes if (manifest := store.manifest(node)) is not None]

    return run


def run_tasks(tasks: list[Task], runner: Runner, jobs: int, console: Console) -> None:
    """Run tasks in the order of what they need, up to ``jobs`` at a time; stop at the first that fails."""
    maker = {node.folder: task.id for task in tasks for node in task.nodes}
    by_id = {task.id: task for task in tasks}
    sorter = TopologicalSorter({t.id: {maker[need] for need in t.needs() if need in maker} for t in tasks})
    sorter.prepare()
    if jobs == 1:
        done = 0
        while sorter.is_active():
            for name in sorter.get_ready():
                done += 1
                _timed(by_id[name], runner, f"{done}/{len(tasks)}", console)
                sorter.done(name)
        return
    running: dict[Future[None], str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        started = 0
        while sorter.is_active():
            for name in sorter.get_ready():
                started += 1
                running[pool.submit(_timed, by_id[name], runner, f"{started}/{len(tasks)}", console)] = name
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                name = running.pop(future)
                future.result()
                sorter.done(name)


def _timed(task: Task, runner: Runner, number: str, console: Console) -> None:
    """Run a task and print one line: number, command, seconds, headline."""
    start = time.perf_counter()
    with console.status(f"{number} {task.id}") if console.is_terminal else console.capture():
        manifests = runner(task)
    seconds = time.perf_counter() - start
    console.print(Text(f"{number:>7}  {task.id:<34} {seconds:7.1f} s  {headline(manifests)}"))


def headline(manifests: list[Manifest]) -> str:
    """The numbers of a task that a person wants to see first."""
    parts = []
    for manifest in manifests:
        name = manifest.name.rpartition("@")[2]
        match manifest.stage:
            case "grade":
                parts.append(f"{name} {100 * manifest.metrics['accuracy']:.1f} %")
            case "measure":
                parts.append(f"BPC {manifest.metrics['bits_per_byte']:.3f}")
            case "train":
                parts.append(f"loss {manifest.metrics['loss']:.3f}, {manifest.counts['steps']} steps")
            case "select":
                parts.append(
                    f"{manifest.counts['examples']} examples, {manifest.metrics['num_tokens']:.0f} tokens each"
                )
            case "merge":
                share = manifest.metrics["merged_vector_norm"] / manifest.metrics["task_vector_norm"]
                parts.append(f"task vector x {share:.2f}")
    if not parts:
        parts = [f"{sum(manifest.counts['requested'] for manifest in manifests)} answers"]
    return ", ".join(parts)
