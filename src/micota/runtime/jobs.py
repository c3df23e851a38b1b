"""What the SLURM job of a task asks for: the GPUs of its engine or trainer, and the keys of ``launcher``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from micota.artifacts.store import Store
from micota.config import Config, PipelineConfig
from micota.costs.context import Context
from micota.costs.machine import machine_of
from micota.graph.node import AnyNode
from micota.graph.stage import stage_of
from micota.runtime.plan import Task

LOCAL = ("timeout_min", "nodes", "gpus_per_node", "tasks_per_node", "cpus_per_task", "mem_gb")  # of cluster=local


def job_parameters(config: PipelineConfig, configs: Mapping[str, Config], task: Task) -> dict[str, Any]:
    """The parameters of submitit for the job of a task; those of ``launcher`` win over what follows from the config. An
    open number of GPUs is the one that the machine of ``hardware`` needs, by default one with 8 GPUs of 80 GB."""
    needs: dict[str, Any] = _needs_of_task(config, configs, task)
    given = config.launcher.of(task.command)
    if "gres" in given:
        needs.pop("gpus_per_node", None)
    parameters = needs | given
    return parameters if config.cluster == "slurm" else {k: v for k, v in parameters.items() if k in LOCAL}


def num_gpus(config: PipelineConfig, configs: Mapping[str, Config], task: Task) -> int:
    """The GPUs of this machine that a task uses."""
    return _needs_of_task(config, configs, task).get("gpus_per_node", 0)


def _needs_of_task(config: PipelineConfig, configs: Mapping[str, Config], task: Task) -> dict[str, int]:
    """What the stages of a task need, one after the other."""
    needs: dict[str, int] = {}
    context = Context(machine_of(config, sizing=True), Store(config.artifacts), config, configs)
    for node in task.nodes:
        for name, value in _needs(context.sized(node), node).items():
            needs[name] = max(value, needs.get(name, 0))
    return needs


def _needs(config: Config, node: AnyNode) -> dict[str, int]:
    """The machines and GPUs that the stage of a node uses."""
    stage, trainer, engine = stage_of(node), config.trainer, config.engine
    if stage.has_ranks and trainer.accelerator == "gpu":
        # On several machines SLURM starts the processes, on one the command does.
        several = {"nodes": trainer.num_nodes, "tasks_per_node": trainer.num_devices} if trainer.num_nodes > 1 else {}
        return {"gpus_per_node": trainer.num_devices, **several}
    if stage.runs_engine:
        on_gpu = engine.device == "cuda" or (engine.device == "auto" and trainer.accelerator == "gpu")
        copies = engine.ray.workers if engine.ray is not None else 1
        return {"gpus_per_node": engine.parts * copies} if on_gpu and not engine.is_elsewhere else {}
    if stage.runs_forward and trainer.accelerator == "gpu":
        return {"gpus_per_node": 1}
    return {}


def job_overrides(cluster: str, parameters: Mapping[str, Any]) -> list[str]:
    """The words of a command line that submit one command as a job with these parameters."""
    words = [f"hydra.launcher.{name}={_hydra(value)}" for name, value in parameters.items()]
    return ["-m", f"hydra/launcher=submitit_{cluster}", *words]


def _hydra(value: Any) -> str:
    """A value in the grammar of Hydra's overrides, in which quoted text may have any character."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_hydra(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_hydra, value)) + "]"
    return (
        json.dumps(value) if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    )
