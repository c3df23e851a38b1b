"""All commands, one record each. The command line, the help and the printed commands read this table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from micota.config.schemas import (
    Config,
    DoctorConfig,
    EvaluateConfig,
    ForecastConfig,
    GenerateConfig,
    MergeCommandConfig,
    PipelineConfig,
    ReportConfig,
    TrainConfig,
)


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command.

    Args:
        name: as it is typed; also the name of its YAML in ``conf/``.
        schema: of its config.
        run: ``module:function`` of that config, imported when the command runs; it returns the number that a
            sweep of the command optimises, if it has one.
        about: its purpose, in one sentence.
        examples: arguments for a first run.
        first: the most used keys and groups, in the order of its help.
        flags: words that stand for an override each, as ``--json`` for ``json=true``.
        lists: keys whose value may be a list here, with the key that then is meant.
    """

    name: str
    schema: type[Config]
    run: str
    about: str
    examples: tuple[str, ...]
    first: tuple[str, ...]
    flags: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, str] = field(default_factory=dict)

    def meant(self, word: str) -> str:
        """The override that a word of the command line stands for."""
        key, _, value = word.partition("=")
        return (
            f"{self.lists[key]}={value}" if value.startswith("[") and key in self.lists else self.flags.get(word, word)
        )


_EVERYWHERE = ("experiment", "seed", "artifacts", "plan")
_TABLE = (
    Command(
        name="generate",
        schema=GenerateConfig,
        run="micota.cli.generate:make_recipe",
        about="Make the training data of one recipe: a generator answers the problems, filters select the answers.",
        examples=("data=strong", "data=micota experiment=tiny"),
        first=("data", "student", "problems", "engine", "show_prompts", "push_to_hub", *_EVERYWHERE),
    ),
    Command(
        name="train",
        schema=TrainConfig,
        run="micota.cli.train:train",
        about="Fine-tune a student on the data of one recipe, or the teacher assistant (TA).",
        examples=("student=qwen1.5b data=micota", "role=ta"),
        first=(
            "student",
            "data",
            "role",
            "trainer",
            "student.sft.learning_rate",
            "show_samples",
            "push_to_hub",
            *_EVERYWHERE,
        ),
    ),
    Command(
        name="doctor",
        schema=DoctorConfig,
        run="micota.cli.doctor:doctor",
        about="Find out before training what a run would learn and need: template, end of turn, loss, memory, disk; or "
        "with determinism, whether an evaluation gives the same answers again.",
        examples=(
            "student=qwen1.5b data=micota",
            "experiment=tiny data=strong --json",
            "determinism experiment=tiny data=instruct",
        ),
        first=("student", "data", "role", "trainer", "hardware", "determinism", "audit", "json", *_EVERYWHERE),
        flags={"--json": "json=true", "determinism": "determinism=true"},
    ),
    Command(
        name="merge",
        schema=MergeCommandConfig,
        run="micota.cli.merge:merge",
        about="Merge the TA before and after fine-tuning, or measure merges in memory first.",
        examples=(
            "merge.weight=0.5",
            "merge=ties merge.density=[0.3,0.7]",
            "sweep=true merge_sweep.weights=[0.3,0.5,0.7]",
            "merge.target_length_ratio=0.5",
            "merge.target=student_bpc student=qwen1.5b",
        ),
        first=("ta", "merge", "merge.weight", "merge.density", "sweep", "push_to_hub", *_EVERYWHERE),
    ),
    Command(
        name="evaluate",
        schema=EvaluateConfig,
        run="micota.cli.evaluate:evaluate",
        about="Evaluate a model: the student of one recipe, the model in another role, or any other model.",
        examples=(
            "student=qwen1.5b data=micota",
            "role=ta_merged bench=math500",
            "model=qwen7b num_samples=8 temperature=0.6",
            "grade=outputs.jsonl",
            "data=strong rank_shift=true",
        ),
        first=(
            *("student", "data", "role", "model.path", "bench", "num_samples", "temperature", "regrade", "grade"),
            *("rank_shift", "engine", *_EVERYWHERE),
        ),
    ),
    Command(
        name="forecast",
        schema=ForecastConfig,
        run="micota.cli.forecast:forecast",
        about="Say what a student is expected to gain from recipes before it is trained, from finished trainings of "
        "other students.",
        examples=("student=qwen1.5b data=[strong,short,micota]", "experiment=tiny data=[strong,micota]"),
        first=("student", "data", "outcomes", "bench", "hardware", *_EVERYWHERE),
        lists={"data": "compare.recipes"},
    ),
    Command(
        name="pipeline",
        schema=PipelineConfig,
        run="micota.cli.pipeline:run",
        about="Run the whole method and compare the recipes; finished stages do not run again.",
        examples=("experiment=tiny", "experiment=micota student=qwen1.5b plan=true"),
        first=("student", "compare.recipes", "compare.measures", "runner", "jobs", *_EVERYWHERE),
    ),
    Command(
        name="report",
        schema=ReportConfig,
        run="micota.cli.report:run",
        about="Show the comparison again: a table here and a page for a browser.",
        examples=("experiment=tiny", "experiment=micota wandb=true"),
        first=("student", "wandb", *_EVERYWHERE),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A command that composes no config of its own and has words for arguments.

    Args:
        name: as it is typed.
        run: ``module:function`` of these words, imported when the tool runs; it returns the exit code.
        about: its purpose, in one sentence.
        examples: arguments for a first run.
    """

    name: str
    run: str
    about: str
    examples: tuple[str, ...]


_TOOLS = (
    Tool(
        name="artifacts",
        run="micota.cli.artifacts:run",
        about="List artifacts with size, age and what needs them, find, show and verify them, delete the others.",
        examples=(
            "list",
            "list experiment=tiny --json",
            "path tiny_ta+strong",
            "show tiny_ta+strong",
            "verify",
            "clean",
            "clean experiment=tiny seed=0,1",
            "clean experiment=tiny --yes",
        ),
    ),
    Tool(
        name="compare",
        run="micota.cli.compare:run",
        about="Compare finished evaluations on the problems that they have in common: paired tests, with intervals.",
        examples=(
            "micota strong",
            "tiny_student+micota tiny_student+short page=differences.html",
            "micota short strong baseline=short",
            "micota short strong top=2 --json",
        ),
    ),
)
TOOLS = {tool.name: tool for tool in _TOOLS}
COMMANDS = {command.name: command for command in _TABLE}
SCHEMAS: dict[str, type[Config]] = {name: command.schema for name, command in COMMANDS.items()}
# The meaning of groups that are no part of a config but can change any part.
GROUPS = {
    "experiment": "a whole setting; tiny is the toy setting, which needs no network and no GPU",
    "compat": "ways of the papers' published code, as compat=[contaminated]",
}
