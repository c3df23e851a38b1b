"""The command pipeline: the whole method, walked along its graph, then reported."""

from __future__ import annotations

from functools import partial

from rich.console import Console
from rich.text import Text

from micota.artifacts.store import LOG, Store
from micota.cli.experiments import cases
from micota.cli.report import report
from micota.config import PipelineConfig
from micota.console import open_console
from micota.graph import CaseConfig, experiment, unique
from micota.runtime.execute import check_first, in_use
from micota.runtime.jobs import job_parameters
from micota.runtime.placing import engine_note
from micota.runtime.plan import finished, pending, show_plan, tasks_of
from micota.runtime.runners import default_jobs, open_runner, run_tasks
from micota.tracking import check_tracker


def run(config: PipelineConfig) -> None:
    """Make and report all cases of the experiment that the config names."""
    pipeline(config, cases(config))


def pipeline(config: PipelineConfig, every: list[CaseConfig], console: Console | None = None) -> None:
    """Make everything that the experiment needs, then report."""
    console = console or open_console()
    made = experiment(every)
    targets = made.targets()
    store = Store(config.artifacts)
    if config.plan:
        job = partial(job_parameters, config, made.configs) if config.runner == "submitit" else None
        show_plan(config, store, targets, console, job)
        return
    todo = pending(store, targets)
    cached = len(unique(targets)) - len(todo)
    console.print(Text(f"{config.name}: {cached} artifacts are there already, {len(todo)} to make", "bold"))
    jobs = config.jobs or default_jobs(config)
    if todo:
        console.print(Text(f"logs of what is being made: {store.root}/*/*.partial/{LOG}", "dim"))
        check_tracker(config.tracker)
        for note in dict.fromkeys(filter(None, (engine_note(made.configs[node.folder], node) for node in todo))):
            console.print(Text(note, "dim"))
    tasks = tasks_of(todo, finished(store, targets))
    if config.runner != "submitit":  # its jobs run on other machines
        check_first(made.configs, store, todo)
    with in_use(store, targets) as protected:
        with open_runner(config, jobs, store, console, made.configs) as runner:
            run_tasks(tasks, runner, jobs, console, protected.begin)
        for node in unique(targets):
            if node.kind == "models":
                console.print(Text(f"model: {store.path(node)}"))
        report(config, every, console)
