"""Which nodes are done, and which commands make the others in which order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from micota.artifacts.store import DELETED, Store
from micota.config import Config, command_line
from micota.config.effect import keys_without_effect
from micota.costs.table import costs_of, show_costs
from micota.data.sources import model_folder
from micota.errors import ConfigError
from micota.graph import unique
from micota.graph.models import source_of
from micota.graph.node import AnyNode
from micota.graph.stage import function, stage_of
from micota.runtime.placing import engine_note

CHANGES_SHOWN = 3  # fields of one artifact
VALUE_CHARS = 40
MAX_NAME = 255  # bytes, on the file systems of Linux and macOS
SHOWN_OF_REVISION = 10  # characters


@dataclass
class Task:
    """The nodes that one command line makes, in order; ``done`` are nodes of the same command line that exist."""

    command: str
    choose: dict[str, str]
    nodes: list[AnyNode] = field(default_factory=list)
    done: list[AnyNode] = field(default_factory=list)

    @property
    def id(self) -> str:
        return " ".join([self.command, *(f"{key}={value}" for key, value in sorted(self.choose.items()))])

    def needs(self) -> Iterator[str]:
        """Folders of all artifacts that the task reads and does not make."""
        outputs = {node.folder for node in self.nodes}
        for node in self.nodes:
            yield from (n.folder for n in node.inputs.values() if not n.is_source and n.folder not in outputs)


def tasks_of(nodes: Iterable[AnyNode], done: Iterable[AnyNode] = ()) -> list[Task]:
    """Group nodes by the command that makes them. A command comes after those whose results it reads."""
    tasks: dict[str, Task] = {}
    for node in nodes:
        task = Task(node.command, dict(node.choose))
        tasks.setdefault(task.id, task).nodes.append(node)
    for node in done:
        sibling = tasks.get(Task(node.command, dict(node.choose)).id)
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


def pending(store: Store, targets: Iterable[AnyNode]) -> list[AnyNode]:
    """The nodes to make for ``targets``, inputs first. The inputs of a node that is done are not visited.

    Raises:
        ConfigError: the name of a node is too long for a folder, as that of a model with those of its data.
    """
    unmade: dict[str, AnyNode] = {}

    def visit(node: AnyNode) -> None:
        if node.folder in unmade or store.is_done(node):
            return
        for child in node.inputs.values():
            visit(child)
        check_name(node)
        unmade[node.folder] = node

    for target in targets:
        visit(target)
    return list(unmade.values())


def check_name(node: AnyNode) -> None:
    """Refuse a name that no disk has room for, before anything is made.

    Raises:
        ConfigError: it is too long.
    """
    size = len(f"{node.name}-{node.key}{DELETED}".encode())
    if size > MAX_NAME:
        raise ConfigError(
            f"{node.kind}/{node.name}-{node.key}: {size} bytes for the name of a folder, which is made of the names of "
            f"models, recipes and benchmarks (NAME.name=...); accepted: names that make at most {MAX_NAME} bytes"
        )


def finished(store: Store, targets: Iterable[AnyNode]) -> list[AnyNode]:
    """The finished nodes among ``targets`` and all their inputs."""
    return [node for node in unique(targets) if store.is_done(node)]


def missing(config: Config, tasks: list[Task], targets: list[AnyNode]) -> str:
    """The text of an error for missing inputs, with the commands that make them."""
    steps = [command_line(config.call, task.command, task.choose) for task in tasks]
    last = tasks[-1].nodes[-1]
    return (
        f"{targets[0].kind[:-1] if targets[0].kind.endswith('s') else targets[0].kind} {targets[0].name} needs "
        f"{last.kind} {last.name} ({last.folder}), which does not exist yet; make it with:  " + "  &&  ".join(steps)
    )


def inspect_all(store: Store, nodes: Iterable[tuple[Config, AnyNode]]) -> None:
    """Let every stage look at the files of this machine for nodes that are not done, each with its config; nodes with
    the same settings and a tokenizer of the same model once.

    Raises:
        UserError: a file shows that a stage would fail; the text names it.
    """
    seen = set()
    for config, node in nodes:
        model, data = node.inputs.get("model"), node.inputs.get("data")
        what = (node.stage, repr(node.spec), model and source_of(model).key, data and data.key)
        if stage_of(node).inspect and what not in seen and not store.is_done(node):
            seen.add(what)
            function(stage_of(node).inspect)(config, node)


def show_plan(
    config: Config,
    store: Store,
    targets: list[AnyNode],
    console: Console,
    job: Callable[[Task], Mapping[str, Any]] | None = None,
    configs: Mapping[str, Config] | None = None,
) -> None:
    """Print for each command which nodes are done and which it would make, with the config changes behind these.

    Args:
        job: the parameters of the SLURM job of a task, where tasks run as jobs.
        configs: the config of each node, by folder, where nodes have different ones.
    """
    unmade = pending(store, targets)
    for node in unmade:
        if refuse := stage_of(node).check_config:
            function(refuse)((configs or {}).get(node.folder, config), node)
    todo = {node.folder for node in unmade}
    inspect_all(store, [((configs or {}).get(node.folder, config), node) for node in unmade])
    for task in tasks_of(unique(targets)):
        console.print(Text(command_line(config.call, task.command, task.choose), "bold"))
        for node in task.nodes:
            if store.is_done(node):
                console.print(Text(f"  done    {node.folder}", "green"))
            elif node.folder not in todo:
                console.print(Text(f"  skip    {node.folder} (nothing that is to be made needs it)", "dim"))
            else:
                state = "resume" if store.progress(node) else "make  "
                console.print(Text(f"  {state}  {node.folder}{why(config, store, node)}", "yellow"))
        for line in models_read(config, (node for node in task.nodes if node.folder in todo)):
            console.print(Text(f"  model   {line}", "dim"))
        if job is not None:
            wanted = ", ".join(f"{name}={value}" for name, value in job(task).items())
            console.print(Text(f"  job     {wanted or 'no parameters'}", "dim"))
    console.print(f"{len(todo)} to make")
    notes = filter(None, (engine_note(config, node) for node in unique(targets)))
    for note in dict.fromkeys([*keys_without_effect(config), *notes]):
        console.print(Text(note, "dim"))
    costs = costs_of(config, store, _unmade(targets, todo), configs or {})
    if costs.rows:
        console.print()
        show_costs(costs, console)


def _unmade(targets: list[AnyNode], todo: Collection[str]) -> list[tuple[str, list[AnyNode]]]:
    """Each command with the nodes that it would make, without commands that would make none."""
    tasks = [(task.command, [node for node in task.nodes if node.folder in todo]) for task in tasks_of(unique(targets))]
    return [(command, nodes) for command, nodes in tasks if nodes]


def models_read(config: Config, nodes: Iterable[AnyNode]) -> list[str]:
    """The models that exist and that ``nodes`` read, with where they lie."""
    lines: dict[str, str] = {}
    for node in nodes:
        engine = config.placed(node.runs).engine if stage_of(node).runs_engine else None
        for child in node.inputs.values():
            if child.is_source and child.key not in lines:
                chat = engine.chat if engine is not None and engine.name == "chat" else None
                where = (
                    where_it_lies(child) if chat is None else f"{chat.model or child.spec.path}, an API at {chat.url}"
                )
                lines[child.key] = f"{child.name}: {where}"
    return list(lines.values())


def where_it_lies(source: AnyNode) -> str:
    """The folder of a model that exists, or its id on the hub where it is not on this machine."""
    path: str = source.spec.path
    revision: str | None = source.spec.revision
    folder = Path(model_folder(path))
    if folder.is_dir():
        return str(folder.absolute())
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(path, "config.json", revision=revision)
    except HFValidationError:  # a name that the hub cannot have
        return path
    at = f"{path} at {revision[:SHOWN_OF_REVISION]}" if revision else path
    return str(Path(cached).parent) if isinstance(cached, str) else f"{at}, not on this machine"


def why(config: Config, store: Store, node: AnyNode) -> str:
    """The differences between a node and the most similar finished artifact of its name, as text; empty without one.

    Only artifacts of the same experiment count: a difference to those of another experiment is not a change.
    """
    new = flatten(asdict(node.spec) | {"inputs": {label: child.key for label, child in node.inputs.items()}})
    differences: list[list[str]] = []
    for manifest in store.siblings(node):
        if manifest.experiment != config.name:
            continue
        inputs = {label: entry["key"] for label, entry in manifest.inputs.items()}
        old = flatten(manifest.config | {"inputs": inputs})
        changed = [key for key in new.keys() | old.keys() if new.get(key) != old.get(key)]
        differences.append([f"{key}: {_short(old.get(key))} -> {_short(new.get(key))}" for key in sorted(changed)])
    if not differences:
        return ""
    nearest = min(differences, key=len)
    more = f" and {len(nearest) - CHANGES_SHOWN} more" if len(nearest) > CHANGES_SHOWN else ""
    return "  changed: " + ", ".join(nearest[:CHANGES_SHOWN]) + more


def _short(value: Any) -> str:
    """A value cut to ``VALUE_CHARS`` characters on one line."""
    text = " ".join(str(value).split())
    return text if len(text) <= VALUE_CHARS else text[: VALUE_CHARS - 3] + "..."


def flatten(node: Any, path: str = "") -> dict[str, Any]:
    """Nested dicts as one dict with dotted keys."""
    if not isinstance(node, dict):
        return {path: node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= flatten(value, f"{path}.{key}" if path else str(key))
    return flat
