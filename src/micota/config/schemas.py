"""The config of each command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from micota.config.audit import AuditConfig
from micota.config.call import Call
from micota.config.fields import choice, non_negative, part, plain, positive, slug, where
from micota.config.hardware import CostConfig, HardwareConfig
from micota.config.launcher import LauncherConfig
from micota.config.merging import MergeConfig, MergeSweepConfig
from micota.config.method import ROLES, CompareConfig, DataConfig, SelectConfig
from micota.config.models import ModelConfig, OtherModelConfig
from micota.config.objective import ObjectiveConfig
from micota.config.problems import BenchConfig, ProblemsConfig, PromptConfig
from micota.config.running import EngineConfig, EvaluationConfig
from micota.config.sampling import TEMPERATURES, is_temperature
from micota.config.tracking import HubConfig, TrackerConfig
from micota.config.trainer import TrainerConfig

GENERATES = ("sft",)  # a model that is not fine-tuned
TUNED = ("sampling",)  # a student: its sampling settings generate nothing


@dataclass(kw_only=True)
class Config:
    """The keys of every command."""

    name: str = slug(about="The experiment: the group of its runs in W&B, the folder of its report.", results=False)
    seed: int = where(
        "an integer of at least 0",
        lambda value: 0 <= value < 2**31,
        about="Drives sampling, choice and order of examples, and merge masks.",
        results=True,
    )
    artifacts: str = where("a folder", bool, about="The folder of all artifacts.", results=False)
    num_threads: int | None = positive(
        None, about="CPU threads of torch; null keeps its default.", unit="threads", results=False
    )
    plan: bool = plain(False, about="true: print what exists, what would be made and why, and stop.", results=False)
    teacher: ModelConfig = part(about="The strong model that generates long chains of thought.", unused=GENERATES)
    ta: ModelConfig = part(about="The teaching assistant: fine-tuned on the teacher's data, then merged.")
    student: ModelConfig = part(about="The small model that is fine-tuned and scored.", unused=TUNED)
    long_generator: OtherModelConfig = part(
        OtherModelConfig,
        about="The model that generates the long chains of thought of Mix-Long; path null: the teacher.",
        unused=GENERATES,
    )
    short_generator: OtherModelConfig = part(
        OtherModelConfig,
        about="The instruct model that generates short chains of thought; path null: the TA before SFT.",
        unused=GENERATES,
    )
    large: ModelConfig = part(about="A large instruct model, for recipes that mix with it.", unused=GENERATES)
    small: ModelConfig = part(about="A small instruct model, for recipes that mix with it.", unused=GENERATES)
    problems: ProblemsConfig = part(about="The training problems.")
    prompt: PromptConfig = part(about="How a problem becomes a prompt.")
    select: SelectConfig = part(about="How completions become training data.")
    data: DataConfig = part(about="The recipe of the student's data.")
    ta_data: DataConfig = part(about="The recipe of the TA's data.", unused=("released",))
    merge: MergeConfig = part(about="How the TA is merged.")
    objective: ObjectiveConfig = part(ObjectiveConfig, about="What the student learns from.")
    merge_sweep: MergeSweepConfig = part(about="Merges measured in memory: sweep=true, and calibration.")
    bench: dict[str, BenchConfig] = part(
        about="The benchmarks, by name.", accepted="bench=[gsm8k] or other options, or bench.NAME.path=FILE"
    )
    decontaminate_against: dict[str, BenchConfig] = part(
        about="The benchmarks that training problems are checked against, by name.",
        accepted="at least one option, as bench@decontaminate_against=[gsm8k]; for no check, select.decontaminate=none",
        unused=("paper_template", "template", "level_column", "subject_column"),
    )
    evaluation: EvaluationConfig = part(about="How answers are sampled and graded.")
    engine: EngineConfig = part(about="What generates completions.")
    trainer: TrainerConfig = part(about="Where and how training runs.")
    hardware: HardwareConfig = part(about="The machine whose costs plan=true computes.", results=False)
    cost: CostConfig = part(CostConfig, about="Assumptions of plan=true.", results=False)
    tracker: TrackerConfig = part(about="Where runs are tracked.", results=False)
    compare: CompareConfig = part(about="What an experiment compares and measures.", results=False)
    call: Call = part(Call, about="How the command was started.", results=False, internal=True)
    compared: dict[str, DataConfig] = part(
        default_factory=dict, about="The recipes that select.match makes alike, by label.", internal=True
    )

    def engine_of(self, model: ModelConfig) -> EngineConfig:
        """The engine that runs a model of this config."""
        return model.engine or self.engine

    def trainer_of(self, model: ModelConfig) -> TrainerConfig:
        """The trainer of a model of this config; it also measures likelihoods and token ranks under the model."""
        return model.trainer or self.trainer

    def placed(self, model: ModelConfig | None) -> Config:
        """The config for a stage that runs ``model``: ``engine`` and ``trainer`` are its own, if it has any."""
        if model is None or (model.engine is None and model.trainer is None):
            return self
        return replace(self, engine=self.engine_of(model), trainer=self.trainer_of(model))

    @property
    def uses_gpu(self) -> bool:
        """Whether a trainer runs on a GPU."""
        trainers = (self.trainer, self.ta.trainer, self.student.trainer)
        return any(trainer is not None and trainer.accelerator == "gpu" for trainer in trainers)

    @property
    def overrides(self) -> list[str]:
        """The overrides of the command line."""
        return self.call.overrides


def _is_repository(value: bool | str) -> bool:
    return isinstance(value, bool) or len([*filter(None, value.split("/"))]) == 2


@dataclass(kw_only=True)
class PushConfig(Config):
    """A command whose result can be uploaded."""

    push_to_hub: bool | str = where(
        "true, false or ACCOUNT/NAME",
        _is_repository,
        False,
        about="true or ACCOUNT/NAME: upload the result and its card to the Hugging Face hub; needs a token.",
        results=False,
    )
    hub: HubConfig = part(HubConfig, about="The repository of an upload.", results=False)


@dataclass(kw_only=True)
class GenerateConfig(PushConfig):
    """generate.py: the training data of one recipe."""

    show_prompts: int = non_negative(
        0, about="Print this many rendered prompts of each generator instead, and make nothing.", results=False
    )


@dataclass(kw_only=True)
class TrainConfig(PushConfig):
    """train.py: a student, or the TA."""

    role: str = choice(
        "student",
        "ta",
        about="The model that is fine-tuned: the student on data, or the TA on ta_data.",
        results=False,
    )
    show_samples: int = non_negative(
        0, about="Print this many examples as the model sees them instead, and train nothing.", results=False
    )


@dataclass(kw_only=True)
class DoctorConfig(Config):
    """doctor.py: what a training run would learn and need, or whether an evaluation gives the same answers again."""

    role: str = choice(
        *ROLES,
        about="The model whose training is examined: the student on data, or the TA on ta_data; with determinism any.",
        results=False,
    )
    determinism: bool = plain(
        False,
        about="true (or the word determinism): repeat an evaluation, and count the answers that differ.",
        results=False,
    )
    model: OtherModelConfig = part(
        OtherModelConfig,
        about="With determinism any other model: a folder or hub id as model.path, or one by name (model=qwen7b).",
        unused=("sampling", "sft"),
    )
    audit: AuditConfig = part(AuditConfig, about="What determinism repeats.")
    json: bool = plain(False, about="true (or --json): print the findings as JSON, for other programs.", results=False)

    def conflicts(self) -> Iterator[str]:
        if self.determinism:
            return
        if self.role not in ("student", "ta"):
            yield f"role={self.role!r}, which is not trained; accepted: student or ta, or any with the word determinism"
        if self.model.path is not None:
            yield f"model.path={self.model.path!r}, which is not trained; accepted: null, or with the word determinism"


@dataclass(kw_only=True)
class MergeCommandConfig(PushConfig):
    """merge.py: the merged TA, or merges measured in memory."""

    sweep: bool = plain(
        False, about="true: measure the points of merge_sweep in memory, and write no model.", results=False
    )

    def conflicts(self) -> Iterator[str]:
        if self.sweep and self.push_to_hub:
            yield f"sweep=true with push_to_hub={self.push_to_hub}: a sweep writes no model; accepted: one of them"


@dataclass(kw_only=True)
class EvaluateConfig(Config):
    """evaluate.py: the scores of one model."""

    role: str = choice(*ROLES, about="The model whose answers are scored.", results=False)
    model: OtherModelConfig = part(
        OtherModelConfig,
        about="Any other model: a folder or hub id as model.path, or one by name (model=qwen7b).",
        unused=("sampling", "sft"),
    )
    num_samples: int | None = positive(
        None,
        about="Answers to each problem (evaluation.sampling.num_samples), of every benchmark; above 1: avg@k, pass@k, "
        "maj@k. null: as evaluation has it.",
        results=True,
        short_for="evaluation.sampling.num_samples",
        short_sets=("evaluation.by_benchmark=false",),
    )
    temperature: float | None = where(
        f"null, {TEMPERATURES}",
        lambda value: value is None or is_temperature(value),
        None,
        about="The temperature of answers (evaluation.sampling.temperature). null: as evaluation has it.",
        results=True,
        short_for="evaluation.sampling.temperature",
    )
    regrade: bool = plain(False, about="true: grade stored answers again, without a model.", results=False)
    grade: str | None = plain(
        None,
        about="A JSONL file of rows {id, completion, answer, problem_id?, sample?, ...} to grade instead.",
        results=False,
    )
    rank_shift: bool = plain(
        False,
        about="true: rank the tokens of the tuned student's stored answers under the student before SFT.",
        results=False,
    )

    def conflicts(self) -> Iterator[str]:
        if self.rank_shift and (self.role != "student" or self.model.path is not None or self.data.is_untuned):
            subject = self.model.path or (f"data={self.data.name}" if self.role == "student" else f"role={self.role}")
            yield f"rank_shift=true with {subject}; accepted: a student tuned on a recipe's data, as data=micota"
        if self.rank_shift and (self.regrade or self.grade is not None):
            yield "rank_shift=true grades nothing; accepted: without regrade and grade"
        if self.regrade and self.grade is not None:
            yield f"regrade=true with grade={self.grade}, which are two things to grade; accepted: one of them"


@dataclass(kw_only=True)
class PipelineConfig(Config):
    """pipeline.py: the whole method for one experiment."""

    runner: str = choice(
        "auto",
        "inprocess",
        "workers",
        "subprocess",
        "submitit",
        about="Where stages run: in this process, a pool of workers, a process a stage, or a SLURM job a stage; auto: "
        "the first two on CPU, a process a stage on GPU.",
        results=False,
    )
    jobs: int | None = positive(
        None,
        about="Stages at a time; null: on CPU as many as there are cores for, else 1.",
        unit="stages",
        results=False,
    )
    cluster: str = choice(
        "slurm",
        "local",
        default="slurm",
        about="Where the runner submitit sends jobs; local: to this machine.",
        results=False,
    )
    budget_gpu_hours: float | None = positive(
        None,
        about="With plan=true: which recipes, seeds and samples fit into this, and what difference they could detect.",
        unit="hours of one GPU",
        results=False,
    )
    launcher: LauncherConfig = part(
        LauncherConfig,
        about="What the jobs of runner=submitit ask for, by command, as launcher.train.gpus_per_node=8.",
        results=False,
    )

    def conflicts(self) -> Iterator[str]:
        if self.budget_gpu_hours is not None and not self.plan:
            yield f"budget_gpu_hours={self.budget_gpu_hours:g} is of a plan, and runs nothing; accepted: with plan=true"
        if self.runner == "inprocess" and self.jobs not in (None, 1):
            yield f"jobs={self.jobs} with runner=inprocess; accepted: runner=workers, subprocess or submitit"


@dataclass(kw_only=True)
class ForecastConfig(PipelineConfig):
    """forecast: what a student is expected to gain from each of some recipes, before it is trained."""

    outcomes: str | None = plain(
        None,
        about="A CSV file of more finished trainings, as micota forecast writes them; null: those of the artifacts "
        "alone. Its rows enter the key, wherever it lies. bundled:toy_students.csv: those of the toy setting.",
        results=False,
    )


@dataclass(kw_only=True)
class ReportConfig(Config):
    """report.py: the comparison as a table and a page."""

    wandb: bool = plain(
        False, about="true: build a workspace and a report in W&B, and make nothing here.", results=False
    )
