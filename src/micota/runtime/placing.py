"""The engine and the trainer that make one node: those of its model, with ``engine=auto`` decided."""

from __future__ import annotations

import os
from dataclasses import replace

from micota.artifacts.store import ENGINE, Build
from micota.config import Config, EngineConfig, ShapeConfig
from micota.config.running import AUTO
from micota.costs.sizes import known_shapes, shape_of
from micota.costs.speeds import fewest_parts
from micota.engines.auto import LOCAL, as_engine, choice, resolved
from micota.errors import StageError
from micota.graph.node import AnyNode
from micota.graph.stage import stage_of
from micota.machine import gpus
from micota.sft.fitting import fewest_devices
from micota.sft.shape import Shape


def placed(config: Config, node: AnyNode, build: Build | None = None) -> Config:
    """The config for the stage of a node: its ``engine`` and ``trainer`` are those of the node's model.

    What ``engine=auto`` stands for is decided once for an artifact: a build that goes on uses the engine that began it,
    so that no artifact holds completions of two engines.

    Args:
        build: what is being made; it keeps the name of the engine. None: nothing is made yet.

    Raises:
        StageError: the engine that began the artifact is not to be had on this machine.
    """
    config = with_devices(config.placed(node.runs), node)
    if config.engine.name != AUTO or build is None or not stage_of(node).runs_engine:
        return replace(config, engine=_with_parts(resolved(config.engine), node))
    note = build.path / ENGINE
    name, why = choice(config.engine)
    begun = note.read_text(encoding="utf-8", errors="replace") if note.exists() else name
    if begun not in LOCAL:
        raise StageError(
            f"{note} is damaged: it names the engine {begun!r}; accepted: {' or '.join(LOCAL)}, whichever began "
            f"{build.path}; or delete that folder to start over"
        )
    if begun == "vllm" and name != "vllm":
        raise StageError(
            f"{build.path} was begun by vLLM, and engine=auto is {name} here ({why}); go on where vLLM and a GPU "
            "are, or delete the folder"
        )
    note.write_text(begun, encoding="utf-8")
    build.engine = begun
    return replace(config, engine=_with_parts(as_engine(config.engine, begun), node))


def with_devices(config: Config, node: AnyNode) -> Config:
    """The config with a number of GPUs for training: of a launcher that started this process, or as few as fit."""
    trainer = config.trainer
    if trainer.devices is not None or not stage_of(node).has_ranks:
        return config
    if "WORLD_SIZE" in os.environ or "SLURM_STEP_ID" in os.environ:
        started = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS", "1"))
        return replace(config, trainer=replace(trainer, devices=max(1, started // trainer.num_nodes)))
    devices, sizes = gpus(), sizes_to_train(node, config.engine.embedded_rows)
    if trainer.accelerator == "cpu" or not devices or sizes is None:
        return replace(config, trainer=replace(trainer, devices=1))
    count = fewest_devices(sizes, trainer, node.spec.sft.max_tokens, devices[0].memory_bytes, len(devices))
    return replace(config, trainer=replace(trainer, devices=count))


def sizes_to_train(node: AnyNode, answer_rows: int) -> Shape | None:
    """The sizes of a model that is trained, beside its teacher; None if they are not known by config.

    Args:
        answer_rows: answers that it samples together, where it does.
    """
    sizes = _known_shape(node)
    if sizes is None:
        return None
    shape, teacher = Shape.to_train(sizes, node.spec.sft), node.inputs.get("teacher")
    known = None if teacher is None else _known_shape(teacher)
    known_teacher = None if known is None else Shape.from_config(known)
    return shape.taught_by(known_teacher, node.spec.objective, answer_rows)


def _known_shape(node: AnyNode) -> ShapeConfig | None:
    return shape_of(node, known_shapes([] if node.runs is None else [node.runs]))


def _with_parts(engine: EngineConfig, node: AnyNode) -> EngineConfig:
    """vLLM with a number of GPUs for one model: as few as its weights need."""
    if engine.tensor_parallel is not None or engine.name != "vllm":
        return engine
    devices, model = gpus(), node.inputs.get("model")
    shape = shape_of(model, known_shapes([] if node.runs is None else [node.runs])) if model is not None else None
    if not devices or shape is None:
        return replace(engine, tensor_parallel=1)
    return replace(engine, tensor_parallel=fewest_parts(shape, engine, devices[0].memory_bytes, len(devices)))


def engine_note(config: Config, node: AnyNode) -> str:
    """What ``engine=auto`` stands for where a node is made, in words; empty where it does not matter."""
    config = config.placed(node.runs)
    if config.engine.name != AUTO or not stage_of(node).runs_engine:
        return ""
    name, why = choice(config.engine)
    return f"engine=auto is {name} on this machine: {why}"
