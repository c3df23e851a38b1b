"""What SLURM jobs ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from micota import graph
from micota.cli.experiments import cases
from micota.config.launcher import JobConfig
from micota.errors import ConfigError
from micota.runtime.jobs import job_overrides, job_parameters
from micota.runtime.plan import tasks_of

Composed = Callable[..., Any]
FEW = ["experiment=micota", "student=qwen1.5b", "compare.recipes=[strong,half_size]", "bench=[gsm8k]"]


def jobs(composed: Composed, *overrides: str) -> dict[str, dict[str, Any]]:
    """The parameters of each job of a small experiment, by its command."""
    config = composed("pipeline", *FEW, "runner=submitit", "compare.measures=[scores]", *overrides)
    made = graph.experiment(cases(config))
    return {task.id: job_parameters(config, made.configs, task) for task in tasks_of(graph.unique(made.targets()))}


def test_a_job_gets_the_gpus_of_its_engine_or_trainer_and_what_its_command_is_given(composed: Composed) -> None:
    made = jobs(
        composed, "ta.trainer=fsdp", "teacher.engine=vllm", "teacher.engine.tensor_parallel=2",
        "launcher.all.partition=gpu", "launcher.train.mem_gb=200", "launcher.all.mem_gb=60",
    )  # fmt: skip
    assert made["generate data=strong"]["gpus_per_node"] == 2 and made["generate data=strong"]["mem_gb"] == 60
    assert made["train role=ta"] == {
        "gpus_per_node": 8, "timeout_min": 1440, "max_num_timeout": 20, "mem_gb": 200, "partition": "gpu",
    }  # fmt: skip
    assert made["train data=strong"]["gpus_per_node"] == made["evaluate data=strong"]["gpus_per_node"] == 1


def test_several_machines_get_a_process_for_each_gpu(composed: Composed) -> None:
    job = jobs(composed, "ta.trainer=fsdp", "ta.trainer.num_nodes=2")["train role=ta"]
    assert (job["nodes"], job["tasks_per_node"], job["gpus_per_node"]) == (2, 8, 8)


def test_a_job_for_a_server_or_on_this_machine_asks_for_less(composed: Composed) -> None:
    made = jobs(
        composed, "teacher.engine=server", "launcher.generate.gres=gpu:h100:1", "launcher.train.gpus_per_node=4"
    )
    assert "gpus_per_node" not in made["generate data=strong"]
    assert made["train data=strong"]["gpus_per_node"] == 4, "what is given wins"
    local = jobs(composed, "cluster=local", "launcher.all.partition=gpu", "launcher.all.signal_delay_s=300")
    assert local["train role=ta"] == {"gpus_per_node": 4, "timeout_min": 1440}, "as many as 14B need of 80 GB"


def test_two_ways_to_ask_for_gpus_are_refused(composed: Composed) -> None:
    with pytest.raises(ConfigError, match="launcher: train has gpus_per_node and gres; accepted: one of them"):
        composed("pipeline", "launcher.all.gres=gpu:8", "launcher.train.gpus_per_node=8")


def test_the_parameters_are_those_of_the_launcher_and_reach_it_as_they_are() -> None:
    config = pytest.importorskip("hydra_plugins.hydra_submitit_launcher.config")
    known = {item.name for item in fields(config.SlurmQueueConf)}
    assert {item.name for item in fields(JobConfig)} <= known
    given = {"setup": ["module load cuda", "echo 'a, b'"], "additional_parameters": {"mail-type": "END"}, "nodes": 2}
    dash, launcher, *words = job_overrides("slurm", given)
    assert (dash, launcher) == ("-m", "hydra/launcher=submitit_slurm")
    parsed = OverridesParser.create().parse_overrides(words)
    assert {item.key_or_group.removeprefix("hydra.launcher."): item.value() for item in parsed} == given
