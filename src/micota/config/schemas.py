"""What each command composes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from micota.config.call import Call
from micota.config.fields import choice, non_negative, positive, slug, where
from micota.config.method import ROLES, CompareConfig, DataConfig, MergeConfig, MergeSweepConfig, SelectConfig
from micota.config.models import ModelConfig, OtherModelConfig
from micota.config.problems import BenchConfig, ProblemsConfig, PromptConfig
from micota.config.running import EngineConfig, EvaluationConfig, HubConfig, TrackerConfig, TrainerConfig


@dataclass(kw_only=True)
class Config:
    """What every command composes."""

    name: str = slug()
    seed: int = where("an integer of at least 0", lambda value: 0 <= value < 2**31)
    artifacts: str = where("a folder", bool)
    num_threads: int | None = positive(None)
    plan: bool = False
    teacher: ModelConfig
    ta: ModelConfig
    student: ModelConfig
    large: ModelConfig
    small: ModelConfig
    problems: ProblemsConfig
    prompt: PromptConfig
    select: SelectConfig
    data: DataConfig
    ta_data: DataConfig
    merge: MergeConfig
    merge_sweep: MergeSweepConfig
    bench: dict[str, BenchConfig]
    decontaminate_against: dict[str, BenchConfig]  # benchmarks whose problems are left out of training
    evaluation: EvaluationConfig
    engine: EngineConfig
    trainer: TrainerConfig
    tracker: TrackerConfig
    compare: CompareConfig
    call: Call = field(default_factory=Call)  # filled in by the command
    compared: dict[str, DataConfig] = field(
        default_factory=dict
    )  # recipes that select.match makes alike; by the command

    @property
    def overrides(self) -> list[str]:
        """The overrides of the command line."""
        return self.call.overrides


@dataclass(kw_only=True)
class GenerateConfig(Config):
    """generate.py: ``show_prompts`` prints that many rendered prompts of each generator instead, and makes nothing;
    ``push_to_hub`` uploads the data and their card."""

    show_prompts: int = non_negative(0)
    push_to_hub: bool = False
    hub: HubConfig = field(default_factory=HubConfig)


@dataclass(kw_only=True)
class TrainConfig(Config):
    """train.py: ``role=ta`` tunes the TA on ``ta_data``, ``role=student`` the student on ``data``. ``show_samples``
    prints so many examples as the model sees them, and stops."""

    role: str = choice("student", "ta")
    show_samples: int = non_negative(0)


@dataclass(kw_only=True)
class MergeCommandConfig(Config):
    """merge.py: ``sweep=true`` measures the points of ``sweep`` in memory and writes no model."""

    sweep: bool = False


@dataclass(kw_only=True)
class EvaluateConfig(Config):
    """evaluate.py: whose answers are scored. ``regrade`` scores stored completions again; ``grade`` scores a file;
    ``rank_shift`` ranks the tokens of a tuned student's stored answers under the student before SFT."""

    role: str = choice(*ROLES)
    model: OtherModelConfig = field(default_factory=OtherModelConfig)
    num_samples: int = positive(1)
    temperature: float = non_negative(0.0)
    regrade: bool = False
    grade: str | None = None
    rank_shift: bool = False

    def conflicts(self) -> Iterator[str]:
        if self.rank_shift and (self.role != "student" or self.model.path is not None or self.data.is_untuned):
            subject = self.model.path or (f"data={self.data.name}" if self.role == "student" else f"role={self.role}")
            yield f"rank_shift=true with {subject}; accepted: a student tuned on a recipe's data, as data=micota"
        if self.rank_shift and (self.regrade or self.grade is not None):
            yield "rank_shift=true grades nothing; drop regrade and grade"


@dataclass(kw_only=True)
class PipelineConfig(Config):
    """pipeline.py: where stages run and how many at a time; ``auto`` is this process or a pool of workers on CPU, and a
    process a stage on GPU."""

    runner: str = choice("auto", "inprocess", "workers", "subprocess", "submitit")
    jobs: int | None = positive(None)
    cluster: str = choice("slurm", "local", default="slurm")

    def conflicts(self) -> Iterator[str]:
        if self.runner == "inprocess" and self.jobs not in (None, 1):
            yield f"jobs={self.jobs} with runner=inprocess; use runner=workers, runner=subprocess or runner=submitit"


@dataclass(kw_only=True)
class ReportConfig(Config):
    """report.py: with ``wandb`` it builds a workspace and a report in W&B instead."""

    wandb: bool = False
