"""One artifact of the graph: what determines it, what it is made from, and the command that makes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

from micota.config import ModelConfig
from micota.config.fields import is_added

SCHEMA_VERSION = 3  # of artifacts; part of every key, so that a new layout never meets an old one


def added(default: Callable[[], Any]) -> Any:
    """A field of a spec that is younger than artifacts: with its default it enters no key, so that they keep theirs."""
    return field(default_factory=default, metadata={"added": default})


@dataclass(frozen=True, kw_only=True)
class Spec:
    """All settings that determine the result of one kind of node, and nothing else.

    A subclass names the ``stage`` that makes it and the ``kind`` of artifact, which is the folder below the artifacts
    (``source``: a model that exists before the experiment).
    """

    stage: ClassVar[str]
    kind: ClassVar[str]


SpecT = TypeVar("SpecT", bound=Spec, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Node(Generic[SpecT]):
    """One artifact of the graph.

    ``inputs`` are the nodes it is made from, by role. ``command`` and its overrides ``choose`` make the node.
    ``benchmark`` names the problem set of completions, scores or rank shifts. ``runs`` is the model
    whose engine or trainer makes the node, which does not determine it; None: no model runs.
    """

    name: str
    spec: SpecT
    inputs: Mapping[str, Node[Any]] = field(default_factory=dict)
    command: str = ""
    choose: Mapping[str, str] = field(default_factory=dict)
    benchmark: str | None = None
    runs: ModelConfig | None = field(default=None, compare=False, repr=False)

    @property
    def stage(self) -> str:
        return self.spec.stage

    @property
    def kind(self) -> str:
        return self.spec.kind

    @property
    def content(self) -> dict[str, Any]:
        """What determines the result, for JSON."""
        return {
            "schema": SCHEMA_VERSION,
            "stage": self.stage,
            "spec": _settings(self.spec),
            "inputs": {label: node.key for label, node in self.inputs.items()},
        }

    @cached_property
    def key(self) -> str:
        """Short hash of the canonical JSON of what determines the result."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def folder(self) -> str:
        """Path below the artifacts folder."""
        return f"{self.kind}/{self.name}-{self.key}"

    @property
    def is_source(self) -> bool:
        return self.kind == "source"

    def walk(self) -> Iterator[Node[Any]]:
        """This node and all it is made from, inputs first. An object that is reached twice comes once: with rounds of
        training, the number of paths grows by a power."""
        yield from self._walk(set())

    def _walk(self, seen: set[int]) -> Iterator[Node[Any]]:
        if id(self) in seen:
            return
        seen.add(id(self))
        for node in self.inputs.values():
            yield from node._walk(seen)
        yield self


AnyNode = Node[Any]


def _settings(spec: Spec) -> dict[str, Any]:
    """The settings that enter a key, for JSON."""
    young = {item.name: item.metadata["added"]() for item in fields(spec) if "added" in item.metadata}
    values = _without_path({item.name: getattr(spec, item.name) for item in fields(spec)})
    return {name: _plain(value) for name, value in values.items() if name not in young or value != young[name]}


def _without_path(values: dict[str, Any]) -> dict[str, Any]:
    """Settings without the path of a local input, which its content identifies wherever it is."""
    if values.get("fingerprint") is None:
        return values
    return {name: value for name, value in values.items() if name != "path"}


def _plain(value: Any) -> Any:
    """A value as JSON has it. Fields of a config that are younger than artifacts are left out with their default."""
    if is_dataclass(value):
        pairs = [(item, getattr(value, item.name)) for item in fields(value)]
        kept = {item.name: inner for item, inner in pairs if not is_added(item, inner)}
        return {name: _plain(inner) for name, inner in _without_path(kept).items()}
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
