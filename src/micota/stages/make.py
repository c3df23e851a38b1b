"""Make nodes: find what is not done, plan, and run each stage in the artifact it makes. No torch until a stage runs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.text import Text

from micota.artifacts import ArtifactError, Build, Manifest, Store
from micota.config import Config, command
from micota.console import open_console
from micota.graph import unique
from micota.records import Node
from micota.stages.ranks import outer_rank
from micota.tracking import NoRun, Run, check_tracker, track

STAGES = {
    "generate": "micota.stages.generate:generate",
    "select": "micota.stages.select:select",
    "train": "micota.stages.train:train",
    "merge": "micota.stages.merge:merge",
    "probe": "micota.stages.probe:probe",
    "grade": "micota.stages.grading:grade",
    "measure": "micota.stages.measure:measure",
    "rank_shift": "micota.stages.rank_shift:rank_shift",
}
# What can be known to fail is checked for all nodes of a command before the first of them is made.
CHECKS = {"grade": "micota.stages.grading:check", "probe": "micota.stages.probe:check"}


@dataclass
class Work:
    """What a stage gets: the config (for where to run; what determines the result is in the node), inputs, outputs."""

    config: Config
    store: Store
    node: Node
    build: Build
    run: Run
    console: Console


@dataclass
class Task:
    """The nodes that one command of a door makes, in order; ``done`` are those of the same command that are there."""

    door: str
    choose: dict[str, str]
    nodes: list[Node] = field(default_factory=list)
    done: list[Node] = field(default_factory=list)

    @property
    def id(self) -> str:
        return " ".join([self.door, *(f"{key}={value}" for key, value in sorted(self.choose.items()))])

    def needs(self) -> Iterator[str]:
        """Folders of all artifacts from outside that the task reads."""
        own = {node.folder for node in self.nodes}
        for node in self.nodes:
            yield from (n.folder for n in node.inputs.values() if not n.is_source and n.folder not in own)


def tasks_of(nodes: Iterable[Node], done: Iterable[Node] = ()) -> list[Task]:
    """Group nodes by the command that makes them; commands come after those whose results they read."""
    tasks: dict[str, Task] = {}
    for node in nodes:
        task = Task(node.door, dict(node.choose))
        tasks.setdefault(task.id, task).nodes.append(node)
    for node in done:
        sibling = tasks.get(Task(node.door, dict(node.choose)).id)
        if sibling is not None:
            sibling.done.append(node)
    waiting = list(tasks.values())
    unmade = {node.folder for task in waiting for node in task.nodes}
    ordered = []
    while waiting:
        task = next(task for task in waiting if unmade.isdisjoint(task.needs()))
        waiting.remove(task)
        unmade -= {node.folder for node in task.nodes}
        ordered.append(task)
    return ordered


def pending(store: Store, targets: Iterable[Node]) -> list[Node]:
    """The nodes to make for ``targets``, inputs first: what is done hides what it was made from."""
    found: dict[str, Node] = {}

    def visit(node: Node) -> None:
        if node.folder in found or store.is_done(node):
            return
        for child in node.inputs.values():
            visit(child)
        found[node.folder] = node

    for target in targets:
        visit(target)
    return list(found.values())


def finished(store: Store, targets: Iterable[Node]) -> list[Node]:
    """All that is done of what ``targets`` are made from, themselves included."""
    return [node for node in unique(targets) if store.is_done(node)]


def make(config: Config, door: str, targets: list[Node], console: Console | None = None) -> None:
    """Make ``targets`` by the stages of one door.

    Raises:
        ArtifactError: an input is missing that another door makes; the text has the commands, in order.
    """
    console = console or open_console()
    store = Store(config.artifacts)
    if config.plan:
        show_plan(config, store, targets, console)
        return
    if outer_rank():
        follow(config, store, targets)
        return
    todo = pending(store, targets)
    own = tasks_of(targets)
    assert [task.door for task in own] == [door], "the targets of a door are made by one command"
    foreign = [task for task in tasks_of(todo) if task.id != own[0].id]
    if foreign:
        raise ArtifactError(missing(config, foreign, targets))
    if todo:
        check_tracker(config.tracker)
    for task in tasks_of(todo, finished(store, targets)):
        perform(config, store, task, console)
    made = {node.folder for node in todo}
    for node in targets:
        console.print(Text(f"{'made' if node.folder in made else 'done already'}: {store.path(node)}"))


def missing(config: Config, tasks: list[Task], targets: list[Node]) -> str:
    """The error for inputs that are not there, with the commands that make them."""
    steps = ["python " + " ".join(command(task.door, config.overrides, task.choose)) for task in tasks]
    last = tasks[-1].nodes[-1]
    return (
        f"{targets[0].kind[:-1] if targets[0].kind.endswith('s') else targets[0].kind} {targets[0].name} needs "
        f"{last.kind} {last.name} ({last.folder}), which does not exist yet; make it with:  " + "  &&  ".join(steps)
    )


def perform(config: Config, store: Store, task: Task, console: Console) -> list[Manifest]:
    """Run the stages of one task, each in the artifact it makes; returns their manifests."""
    manifests = []
    for node in task.nodes:
        if node.stage in CHECKS and not store.is_done(node):
            _function(CHECKS[node.stage])(config, node)
    with ExitStack() as stack:
        run: Run | None = None
        for node in task.nodes:
            with store.build(node, config.seed) as build:
                if build is not None:
                    run = run or stack.enter_context(_tracked(config, store, task))
                    run_stage(Work(config, store, node, build, run, console))
            manifest = store.manifest(node)
            assert manifest is not None
            if run is not None:
                run.made(node, store.path(node), manifest)
            manifests.append(manifest)
    return manifests


@contextmanager
def _tracked(config: Config, store: Store, task: Task) -> Iterator[Run]:
    """A run that knows also what an earlier run of the same command made, and so sums up over all benchmarks."""
    with track(config, [*task.done, *task.nodes]) as run:
        for node in task.done:
            manifest = store.manifest(node)
            assert manifest is not None
            run.made(node, store.path(node), manifest)
        yield run


def follow(config: Config, store: Store, targets: list[Node]) -> None:
    """Be one of the ranks beside rank 0, which holds the artifact's lock and writes it. Only training has ranks."""
    for node in targets:
        if node.stage == "train" and not store.is_done(node):
            partial = store.path(node).with_name(store.path(node).name + ".partial")
            run_stage(Work(config, store, node, Build(partial), NoRun(), Console(quiet=True)))


def run_stage(work: Work) -> None:
    """Import the stage of a node, which imports torch, and run it."""
    stage = _function(STAGES[work.node.stage])
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()  # ours shows the whole stage
    if work.config.num_threads is not None:
        torch.set_num_threads(work.config.num_threads)
    stage(work)


def _function(place: str) -> Callable[..., None]:
    """The function at ``module:name``."""
    module, _, name = place.partition(":")
    found: Callable[..., None] = getattr(importlib.import_module(module), name)
    return found


def show_plan(config: Config, store: Store, targets: list[Node], console: Console) -> None:
    """Print what is done, what would be made, by which command, and what a change of config would redo."""
    todo = {node.folder for node in pending(store, targets)}
    for task in tasks_of(unique(targets)):
        console.print(Text("python " + " ".join(command(task.door, config.overrides, task.choose)), "bold"))
        for node in task.nodes:
            if store.is_done(node):
                console.print(Text(f"  done    {node.folder}", "green"))
            elif node.folder not in todo:
                console.print(Text(f"  skip    {node.folder} (nothing that is to be made needs it)", "dim"))
            else:
                state = "resume" if store.progress(node) else "make  "
                console.print(Text(f"  {state}  {node.folder}{why(store, node)}", "yellow"))
    console.print(f"{len(todo)} to make")


def why(store: Store, node: Node) -> str:
    """What differs between a node and the nearest finished artifact of its name, if there is one."""
    new = flatten(asdict(node.spec) | {"inputs": {label: child.key for label, child in node.inputs.items()}})
    differences: list[list[str]] = []
    for manifest in store.siblings(node):
        inputs = {label: entry["key"] for label, entry in manifest.inputs.items()}
        old = flatten(manifest.config | {"inputs": inputs})
        changed = [key for key in new.keys() | old.keys() if new.get(key) != old.get(key)]
        differences.append([f"{key}: {old.get(key)} -> {new.get(key)}" for key in sorted(changed)])
    if not differences:
        return ""
    nearest = min(differences, key=len)
    return "  changed: " + ", ".join(nearest)


def flatten(node: Any, path: str = "") -> dict[str, Any]:
    """Nested dicts as one dict with dotted keys."""
    if not isinstance(node, dict):
        return {path: node}
    found: dict[str, Any] = {}
    for key, value in node.items():
        found |= flatten(value, f"{path}.{key}" if path else str(key))
    return found
