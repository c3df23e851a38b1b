"""The record of a kind of node, which the runner, the console, the report and the tracker use."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from micota.graph.node import AnyNode, Spec

Counts = Mapping[str, Any]  # counts and metrics of a finished artifact, in one mapping


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One kind of node. Nothing here imports torch: ``run`` and ``check`` are named, and imported when they are used.

    Args:
        name: as in the ``stage`` of its specs; it enters keys and manifests.
        specs: the dataclasses of its settings.
        run: ``module:function`` that makes the artifact, given a ``Work``; empty where nothing is to be made.
        inspect: ``module:function`` of config and node that refuses what files on this machine show to be wrong, as a
            chat template that is missing; it imports no torch, and a plan runs it too.
        check: ``module:function`` of config and node that refuses what is known to fail, before anything is made.
        check_config: the same for what a config shows without a model or a file, so that a plan refuses it too.
        estimate: ``module:function`` of a context of costs and a node that returns what the node will cost; empty where
            nothing is to be paid for.
        label: what people read, on the page and in lineage.
        section: the first part of its metrics' names in the tracker.
        headline: of a node and its results, the numbers for one line of the console.
        describe: of a node and its results (empty where they are no longer stored), what it did, in one line.
        has_ranks: it runs in several processes at once, where the trainer has several devices.
        runs_engine: it generates with ``engine``.
        runs_forward: a model computes in one process, on the device of the trainer.
        module: what a worker process imports to know this stage.
    """

    name: str
    specs: tuple[type[Spec], ...]
    label: str
    section: str
    describe: Callable[[AnyNode, Counts], str]
    headline: Callable[[AnyNode, Counts], str] = lambda node, counts: ""
    run: str = ""
    inspect: str = ""
    check: str = ""
    check_config: str = ""
    estimate: str = ""
    has_ranks: bool = False
    runs_engine: bool = False
    runs_forward: bool = False
    module: str


_stages: dict[str, Stage] = {}


def register(stage: Stage) -> Stage:
    """Make a kind of node known.

    Raises:
        TypeError: the record is half-done, a spec names another stage, so that its nodes would have no stage, or the
            name is taken; the text states which.
    """
    if wrong := next(_faults(stage), None):
        raise TypeError(f"stage {stage.name!r}: {wrong}")
    _stages[stage.name] = stage
    return stage


def _faults(stage: Stage) -> Iterator[str]:
    """The faults that would show later, when an artifact of this kind is planned, made or shown."""
    if stage.name in _stages:
        yield "it is registered twice"
    if not stage.specs:
        yield "it has no spec; accepted: one or more dataclasses of settings"
    for spec in stage.specs:
        for name in ("stage", "kind"):
            if not getattr(spec, name, ""):
                yield f"{spec.__name__} has no {name}; set it as a class variable"
        if spec.stage != stage.name:
            yield f"{spec.__name__}.stage is {spec.stage!r}; accepted: {stage.name!r}"
        if not is_dataclass(spec):
            yield f"{spec.__name__} is no dataclass; its fields are what the key of an artifact is the hash of"
    for name in ("label", "section", "module"):
        if not getattr(stage, name):
            yield f"{name} is empty"
    if not stage.run and any(spec.kind != "source" for spec in stage.specs):
        yield "run is empty, and nothing else makes its artifacts; accepted: 'module:function'"
    for name in ("run", "inspect", "check", "check_config", "estimate"):
        path = getattr(stage, name)
        if path and not _is_defined(path):
            yield f"{name}={path!r}: there is no such function; accepted: 'module:function'"


def _is_defined(path: str) -> bool:
    """Whether ``module:function`` exists. The source is parsed and not run, because a stage imports torch."""
    module, _, name = path.partition(":")
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # a package above it is missing, or the name is none
        return False
    if spec is None or spec.origin is None:
        return False
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    return name in {item.name for item in body if isinstance(item, ast.FunctionDef)}


def stage_of(node: AnyNode) -> Stage:
    """The record of a node's kind.

    Raises:
        LookupError: no stage of this name is registered.
    """
    try:
        return _stages[node.stage]
    except KeyError:
        known = ", ".join(_stages) or "none; import micota.stages.registry"
        raise LookupError(f"no stage is called {node.stage!r}; registered: {known}") from None


def registered() -> set[str]:
    """The names of all stages."""
    return set(_stages)


def all_stages() -> list[Stage]:
    """The records of all stages, in the order in which they were registered."""
    return list(_stages.values())


def stage_modules() -> list[str]:
    """The modules that registered stages, for processes that must know the same ones."""
    return list(dict.fromkeys(stage.module for stage in _stages.values()))


def function(path: str) -> Callable[..., Any]:
    """The function at ``module:name``."""
    module, _, name = path.partition(":")
    loaded: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return loaded
