"""The schema of what a SLURM job of one command asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from micota.config.fields import non_negative, part, plain, positive, words


@dataclass(kw_only=True)
class JobConfig:
    """Parameters of a job, named as in Hydra's submitit launcher; null: not set."""

    timeout_min: int | None = positive(
        None, about="The longest that the job may run before it is requeued.", unit="minutes", results=False
    )
    nodes: int | None = positive(None, about="Machines.", unit="machines", results=False)
    gpus_per_node: int | None = non_negative(
        None, about="GPUs of each machine; null: as many as the engine or the trainer uses.", unit="GPUs", results=False
    )
    tasks_per_node: int | None = positive(
        None, about="Processes that SLURM starts on each machine; null: one, or one a GPU on several.", results=False
    )
    cpus_per_task: int | None = positive(None, about="Cores of a process.", unit="cores", results=False)
    mem_gb: int | None = positive(None, about="Memory of each machine.", unit="GB", results=False)
    partition: str | None = words(None, about="The partition.", results=False)
    qos: str | None = words(None, about="The quality of service.", results=False)
    account: str | None = words(None, about="The account that pays.", results=False)
    constraint: str | None = words(None, about="Features that the machine must have, as h100.", results=False)
    exclude: str | None = words(None, about="Machines that are not used.", results=False)
    gres: str | None = words(None, about="Generic resources, as gpu:h100:8.", results=False)
    comment: str | None = words(None, about="A comment.", results=False)
    cpus_per_gpu: int | None = positive(None, about="Cores for each GPU.", unit="cores", results=False)
    gpus_per_task: int | None = positive(None, about="GPUs of a process.", unit="GPUs", results=False)
    mem_per_gpu: str | None = words(None, about="Memory for each GPU, as 120G.", results=False)
    mem_per_cpu: str | None = words(None, about="Memory for each core, as 4G.", results=False)
    signal_delay_s: int | None = positive(
        None, about="How long before the end of its time the job is signalled.", unit="seconds", results=False
    )
    max_num_timeout: int | None = non_negative(
        None, about="How often a job whose time is over is requeued; it goes on where it stopped.", results=False
    )
    setup: list[str] | None = plain(None, about="Shell commands before the job, as [module load cuda].", results=False)
    additional_parameters: dict[str, Any] = plain(
        default_factory=dict, about="More parameters of sbatch, as {mail-type: END}.", results=False
    )

    def given(self) -> dict[str, Any]:
        """The parameters that are set."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if value is not None and value != {}}


@dataclass(kw_only=True)
class LauncherConfig:
    """What the jobs of ``runner=submitit`` ask for: every job (``all``), and those of one command on top."""

    all: JobConfig = part(JobConfig, about="Parameters of every job.", results=False)
    generate: JobConfig = part(JobConfig, about="Of jobs that make data.", results=False, same_as="launcher.all")
    train: JobConfig = part(JobConfig, about="Of jobs that fine-tune.", results=False, same_as="launcher.all")
    merge: JobConfig = part(JobConfig, about="Of jobs that merge.", results=False, same_as="launcher.all")
    evaluate: JobConfig = part(JobConfig, about="Of jobs that evaluate.", results=False, same_as="launcher.all")

    def of(self, command: str) -> dict[str, Any]:
        """The parameters that are set for the jobs of a command."""
        of_command: JobConfig = getattr(self, command)
        return self.all.given() | of_command.given()

    def conflicts(self) -> Iterator[str]:
        for name in ("generate", "train", "merge", "evaluate"):
            given = self.of(name)
            if "gpus_per_node" in given and "gres" in given:
                yield f"{name} has gpus_per_node and gres; accepted: one of them"
