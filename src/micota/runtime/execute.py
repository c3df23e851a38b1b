"""Make nodes: list those that are not done and run the stage of each in its artifact. Torch loads with a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from rich.console import Console
from rich.text import Text

from micota.artifacts.in_use import InUse
from micota.artifacts.manifest import LOG, Manifest
from micota.artifacts.store import Build, Store
from micota.config import Config, command_line
from micota.config.effect import keys_without_effect
from micota.config.models import models_of
from micota.console import open_console
from micota.errors import ArtifactError, ConfigError, ModelError, SourceError
from micota.graph import needs_no_model, unique
from micota.graph.node import AnyNode
from micota.graph.stage import function, stage_of
from micota.graph.teachers import TARGETS, TargetsSpec, inputs_of
from micota.runtime.distributed import outer_rank
from micota.runtime.full_memory import explained
from micota.runtime.placing import engine_note, placed
from micota.runtime.plan import Task, finished, inspect_all, missing, pending, show_plan, tasks_of
from micota.runtime.work import Work
from micota.tracking import OBJECTIVE, NoRun, Run, check_tracker, track, track_command, tracks_command
from micota.tracking.runs import Done

Objective = Callable[[Store], float | None]  # the number that a sweep of a command optimises


def execute(
    config: Config,
    command: str,
    targets: list[AnyNode],
    console: Console | None = None,
    objective: Objective | None = None,
) -> None:
    """Make ``targets`` by the stages of one command; ``objective`` is of the command, for the summary of its run.

    Raises:
        ArtifactError: an input is missing that another command makes; the text lists the commands in order.
    """
    console = console or open_console()
    store = Store(config.artifacts)
    if config.plan:
        show_plan(config, store, targets, console)
        return
    todo = pending(store, targets)
    [task_of_targets] = tasks_of(targets)
    assert task_of_targets.command == command, "the targets of a command are made by one command"
    if outer_rank() is not None:
        _check_ranks([node for task in tasks_of(todo) if task.id == task_of_targets.id for node in task.nodes])
    if outer_rank():
        follow(config, store, targets)
        return
    foreign = [task for task in tasks_of(todo) if task.id != task_of_targets.id and not _can_make(task)]
    if foreign:
        raise ArtifactError(missing(config, foreign, targets))
    if todo or tracks_command(config.tracker):
        check_tracker(config.tracker)
    notes = filter(None, (engine_note(config, node) for node in todo))
    for note in dict.fromkeys([*(keys_without_effect(config) if todo else []), *notes]):
        console.print(Text(note, "dim"))
    done = finished(store, targets)
    own = next(task for task in tasks_of(unique(targets)) if task.id == task_of_targets.id)
    show = showing(console)
    with in_use(store, targets) as protected, track_command(config, own.nodes, show) as run:
        if run is not None:
            for entry in done_before(store, [node for node in own.nodes if node in done]):
                run.made(*entry)
        for task in tasks_of(todo, done):
            perform(config, store, task, console, show_log=True, run=run)
            protected.begin()
        if run is not None and objective is not None and (value := objective(store)) is not None:
            run.summarise({OBJECTIVE: value})
    made = {node.folder for node in todo}
    for node in targets:
        console.print(Text(f"{'made' if node.folder in made else 'done already'}: {store.path(node)}"))


def _check_ranks(todo: Sequence[AnyNode]) -> None:
    """Refuse what several ranks that run already cannot make: stages of one process before or between those of all.

    Args:
        todo: the nodes of one command that are not done.

    Raises:
        ConfigError: the text says how to make it.
    """
    trainings = [node for node in todo if stage_of(node).has_ranks]
    if len(trainings) > 1:
        raise ConfigError(
            "student.sft.curriculum.order=steered under torchrun or srun: between rounds one process measures the data "
            "while the others would wait; accepted: one process on one node, which starts a rank for each device itself"
        )
    alone = [node for node in todo if isinstance(node.spec, TargetsSpec)]
    if trainings and alone:
        steps = len(inputs_of(trainings[0], TARGETS))
        without = " student.sft.max_flops=null" if trainings[0].spec.sft.max_flops is not None else ""
        raise ConfigError(
            f"objective.stored={alone[0].spec.dtype} under torchrun or srun: one process stores the probabilities of "
            f"{alone[0].inputs['model'].name}, and they are not there yet; accepted: first the same command in one "
            f"process with student.sft.max_steps={steps}{without}, whose stored probabilities are the same"
        )


def _can_make(task: Task) -> bool:
    """Whether any command can make the nodes of a task: data that are only read. Of several ranks that run already, the
    others would not wait for them."""
    return outer_rank() is None and all(map(needs_no_model, task.nodes))


def showing(console: Console) -> Callable[[str], None]:
    """Prints the URL of a run."""
    return lambda url: console.print(Text(f"tracked: {url}"))


def done_before(store: Store, nodes: Iterable[AnyNode]) -> list[Done]:
    """Finished nodes with folder and manifest."""
    manifests = ((node, store.manifest(node)) for node in nodes)
    return [(node, store.path(node), manifest) for node, manifest in manifests if manifest is not None]


def perform(
    config: Config, store: Store, task: Task, console: Console, *, show_log: bool = False, run: Run | None = None
) -> list[Manifest]:
    """Run the stages of one task, each in its artifact, and return their manifests.

    Args:
        show_log: print the path of each log when its stage starts, and the URL of the tracked run.
        run: of the whole command; None opens one for this task, if anything is to be made.
    """
    manifests = []
    check_all(config, store, task.nodes)
    with ExitStack() as stack:
        for node in task.nodes:
            command = command_line(config.call, node.command, node.choose)
            notice = partial(show_wait, console, node)
            verify_inputs(store, node)
            with store.build(node, config.seed, config.name, command, notice=notice) as build:
                if build is not None:
                    if show_log:
                        unfinished = f"in {build.path.name} until it is done"
                        console.print(Text(f"log: {store.path(node) / LOG} ({unfinished})", "dim"))
                    run = run or stack.enter_context(_tracked(config, store, task, console if show_log else None))
                    build.begin_run(run.id)
                    run_stage(Work(placed(config, node, build), store, node, build, run, console))
                    build.run = run.address
            manifest = store.manifest(node)
            assert manifest is not None
            if run is not None:
                run.made(node, store.path(node), manifest)
            manifests.append(manifest)
    return manifests


def verify_inputs(store: Store, node: AnyNode) -> None:
    """Compare all files that a node is to be made from, and that exist, with their manifests. A stage has no part in
    it, so that a new one cannot leave it out.

    Raises:
        ArtifactError: one is damaged.
    """
    if not store.is_done(node):
        for child in node.inputs.values():
            if not child.is_source and store.is_done(child):
                store.verified(child)


def show_wait(console: Console, node: AnyNode, owner: str) -> None:
    """Print for whom a run waits that meets an artifact in the making."""
    console.print(Text(f"waiting: another run makes {node.folder} ({owner})", "dim"))


def in_use(store: Store, targets: list[AnyNode]) -> InUse:
    """Protects ``targets`` and all their inputs from ``micota artifacts clean`` while it is open."""
    return InUse(store.root, (node.folder for node in unique(targets)))


def check_all(config: Config, store: Store, nodes: Sequence[AnyNode]) -> None:
    """Verify the inputs and run the checks of all nodes that are not done, before the first of them is made."""
    for node in nodes:
        verify_inputs(store, node)
    inspect_all(store, [(config, node) for node in nodes])
    for node in nodes:
        stage = stage_of(node)
        for check in filter(None, (stage.check_config, stage.check)):
            if not store.is_done(node):
                function(check)(placed(config, node), node)


def check_first(configs: Mapping[str, Config], store: Store, nodes: Sequence[AnyNode]) -> None:
    """Run the checks of a whole pipeline before anything is made: one for all nodes with the same settings.

    Args:
        configs: the config for each node, by folder.
    """
    for node in nodes:
        verify_inputs(store, node)
    one_of_each = {(node.stage, repr(node.spec)): node for node in nodes}
    for node in one_of_each.values():
        check_all(configs[node.folder], store, [node])


def mean_accuracy(store: Store, graded: Iterable[AnyNode]) -> float | None:
    """The mean over benchmarks of the accuracies of finished scores; None without any."""
    accuracies = [manifest.metrics["accuracy"] for _, _, manifest in done_before(store, graded)]
    return sum(accuracies) / len(accuracies) if accuracies else None


@contextmanager
def _tracked(config: Config, store: Store, task: Task, console: Console | None) -> Iterator[Run]:
    """A tracked run. It also gets what earlier runs of the same command made, so that its summary covers all
    benchmarks. It continues the run of an unfinished build."""
    continued = next(filter(None, map(store.run_of, task.nodes)), None)
    done = done_before(store, task.done)
    show = None if console is None else showing(console)
    with track(config, [*task.done, *task.nodes], done, continued, show) as run:
        yield run


def follow(config: Config, store: Store, targets: list[AnyNode]) -> None:
    """Run the stages as a rank other than 0. Rank 0 holds the lock of the artifact and writes it. Stages without ranks
    are skipped."""
    check_all(config, store, targets)
    for node in targets:
        if stage_of(node).has_ranks and not store.is_done(node):
            run_stage(Work(placed(config, node), store, node, Build(store.partial(node)), NoRun(), Console(quiet=True)))


@contextmanager
def naming_keys(config: Config) -> Iterator[None]:
    """Add the part of the config that names a model to the error of a model that cannot be read.

    Raises:
        SourceError: a model cannot be read.
    """
    try:
        yield
    except ModelError as error:
        named = next((key for key, model in models_of(config) if model.path == error.path), None)
        raise SourceError(f"{named}.{error}" if named else f"model {error}") from error


def run_stage(work: Work[Any]) -> None:
    """Import the stage of a node, which imports torch, and run it."""
    stage = function(stage_of(work.node).run)
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()  # the bar of micota shows the whole stage
    if work.config.num_threads is not None:
        torch.set_num_threads(work.config.num_threads)
    try:
        with naming_keys(work.config):
            stage(work)
    except (RuntimeError, MemoryError) as error:
        trains = stage_of(work.node).has_ranks
        if (cause := explained(error, work.config, work.node, trains=trains, rank=outer_rank())) is error:
            raise
        raise cause from error
