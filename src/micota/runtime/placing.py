"""The engine and the trainer that make one node: those of its model, with ``engine=auto`` decided."""

from __future__ import annotations

from dataclasses import replace

from micota.artifacts.store import ENGINE, Build
from micota.config import Config
from micota.config.running import AUTO
from micota.engines.auto import as_engine, choice, resolved
from micota.errors import StageError
from micota.graph.node import AnyNode
from micota.graph.stage import stage_of


def placed(config: Config, node: AnyNode, build: Build | None = None) -> Config:
    """The config for the stage of a node: its ``engine`` and ``trainer`` are those of the node's model.

    What ``engine=auto`` stands for is decided once for an artifact: a build that goes on uses the engine that began it,
    so that no artifact holds completions of two engines.

    Args:
        build: what is being made; it keeps the name of the engine. None: nothing is made yet.

    Raises:
        StageError: the engine that began the artifact is not to be had on this machine.
    """
    config = config.placed(node.runs)
    if config.engine.name != AUTO:
        return config
    if build is None or not stage_of(node).runs_engine:
        return replace(config, engine=resolved(config.engine))
    note = build.path / ENGINE
    name, why = choice(config.engine)
    begun = note.read_text(encoding="utf-8") if note.exists() else name
    if begun == "vllm" and name != "vllm":
        raise StageError(
            f"{build.path} was begun by vLLM, and engine=auto is {name} here ({why}); go on where vLLM and a GPU "
            "are, or delete the folder"
        )
    note.write_text(begun, encoding="utf-8")
    build.engine = begun
    return replace(config, engine=as_engine(config.engine, begun))


def engine_note(config: Config, node: AnyNode) -> str:
    """What ``engine=auto`` stands for where a node is made, in words; empty where it does not matter."""
    config = config.placed(node.runs)
    if config.engine.name != AUTO or not stage_of(node).runs_engine:
        return ""
    name, why = choice(config.engine)
    return f"engine=auto is {name} on this machine: {why}"
