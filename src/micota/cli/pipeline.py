"""The command pipeline: the whole method, walked along its graph, then reported."""

from __future__ import annotations

from functools import partial

from rich.console import Console
from rich.text import Text

from micota.artifacts.manifest import LOG
from micota.artifacts.store import Store
from micota.cli.experiments import cases
from micota.cli.report import report
from micota.cli.stopping import undecided
from micota.config import PipelineConfig
from micota.console import open_console
from micota.costs.budget import Budget, show_budget
from micota.costs.power import planned_tests, show_power
from micota.graph import CaseConfig, Experiment, experiment, unique
from micota.runtime.execute import check_first, done_before, in_use, mean_accuracy, showing
from micota.runtime.jobs import job_parameters
from micota.runtime.placing import engine_note
from micota.runtime.plan import finished, pending, show_plan, tasks_of
from micota.runtime.runners import default_jobs, open_runner, run_tasks
from micota.tracking import OBJECTIVE, check_tracker, track_command, tracks_command


def run(config: PipelineConfig) -> float | None:
    """Make and report all cases of the experiment that the config names. Returns its objective."""
    return pipeline(config, cases(config))


def pipeline(config: PipelineConfig, every: list[CaseConfig], console: Console | None = None) -> float | None:
    """Make everything that the experiment needs, then report. Returns the objective (see :func:`summary_of`)."""
    console = console or open_console()
    store = Store(config.artifacts)
    going_on = undecided(config, every, store, console)
    made = experiment(going_on)
    targets = made.targets()
    if config.plan:
        job = partial(job_parameters, config, made.configs) if config.runner == "submitit" else None
        show_plan(config, store, targets, console, job, made.configs)
        if pending(store, targets) and (tests := planned_tests(config, store, made)):
            console.print()
            show_power(tests, console)
        if config.budget_gpu_hours is not None:
            console.print()
            show_budget(Budget(config, every, store), config.budget_gpu_hours, console)
        return None
    if not going_on:
        report(config, every, console)
        return None
    todo = pending(store, targets)
    cached = len(unique(targets)) - len(todo)
    console.print(Text(f"{config.name}: {cached} artifacts are there already, {len(todo)} to make", "bold"))
    jobs = config.jobs or default_jobs(config)
    if todo:
        console.print(Text(f"logs of what is being made: {store.root}/*/*.partial/{LOG}", "dim"))
    if todo or tracks_command(config.tracker):
        check_tracker(config.tracker)
        for note in dict.fromkeys(filter(None, (engine_note(made.configs[node.folder], node) for node in todo))):
            console.print(Text(note, "dim"))
    tasks = tasks_of(todo, finished(store, targets))
    if config.runner != "submitit":  # its jobs run on other machines
        check_first(made.configs, store, todo)
    headline = [node for recipe in made.cases[0].comparison.recipes[-1:] for node in recipe.scores.values()]
    with (
        in_use(store, targets) as protected,
        track_command(config, headline or targets, showing(console)) as tracked,
    ):
        with open_runner(config, jobs, store, console, made.configs) as runner:
            run_tasks(tasks, runner, jobs, console, protected.begin)
        for node in unique(targets):
            if node.kind == "models":
                console.print(Text(f"model: {store.path(node)}"))
        report(config, every, console)
        summary = summary_of(store, made)
        if tracked is not None:
            for entry in done_before(store, unique(targets)):
                tracked.recorded(*entry)
            tracked.summarise(summary)
    return summary.get(OBJECTIVE)


def summary_of(store: Store, made: Experiment) -> dict[str, float]:
    """The accuracies of an experiment under names that do not depend on its settings: ``RECIPE/BENCHMARK/accuracy`` and
    ``RECIPE/average``, of several cases after their labels; and ``objective``, the average of the last recipe over all
    cases."""
    summary: dict[str, float] = {}
    last: list[float] = []
    for case in made.cases:
        at = "".join(f"{label}/" for label in case.labels.values())
        scores = {"teacher": case.comparison.teacher} | {r.name: r.scores for r in case.comparison.recipes}
        for name, nodes in scores.items():
            for benchmark, node in nodes.items():
                if (accuracy := mean_accuracy(store, [node])) is not None:
                    summary[f"{at}{name}/{benchmark}/accuracy"] = accuracy
            if (average := mean_accuracy(store, nodes.values())) is not None:
                summary[f"{at}{name}/average"] = average
        recipes = case.comparison.recipes
        if recipes and f"{at}{recipes[-1].name}/average" in summary:
            last.append(summary[f"{at}{recipes[-1].name}/average"])
    return summary | ({OBJECTIVE: sum(last) / len(last)} if last else {})
