"""The commands as functions: for notebooks, scripts and other programs.

Settings are the overrides of the command line, and mistakes raise the errors that it prints. ``import micota`` brings
these functions. Only functions that run a model import PyTorch, when they are called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from micota import graph
from micota.artifacts.scores import read_scores
from micota.artifacts.store import Store
from micota.cli import experiments
from micota.cli.composing import composing, prepared
from micota.cli.grade_file import graded
from micota.cli.inputs import fingerprint_inputs
from micota.config import (
    SCHEMAS,
    Call,
    Config,
    EvaluateConfig,
    EvaluationConfig,
    OtherModelConfig,
    complaints,
)
from micota.errors import ArtifactError, ConfigError
from micota.graph.node import AnyNode
from micota.graph.specs import ScoresSpec
from micota.runtime.execute import execute

if TYPE_CHECKING:
    from micota.report.collect import CaseReport

# Settings of commands that print, upload or remove something instead of making an artifact, or beside it.
ON_THE_COMMAND_LINE = ("plan", "show_prompts", "show_samples", "push_to_hub", "regrade", "grade")
Settings = Sequence[str] | Config


@dataclass(frozen=True, kw_only=True)
class Results:
    """All cases of an experiment that has been run: see :func:`load_results`.

    Args:
        store: where the artifacts are.
        cases: one for each point of the experiment's axes; ``cases[0].summary`` holds its numbers.
        call: the command that the experiment ran with.
    """

    store: Store
    cases: list[CaseReport]
    call: Call


def compose(overrides: Sequence[str] = (), command: str = "train", config_dir: str | Path | None = None) -> Config:
    """Return the checked config of a command. Needs no PyTorch and makes nothing.

    Args:
        overrides: as on the command line, ``["student=qwen1.5b", "data=micota"]``.
        command: generate, train, merge, evaluate, pipeline or report.
        config_dir: a folder with the user's YAML groups, as ``--config-dir``.

    Raises:
        ConfigError: an override, or the command, is not accepted; the text has the accepted form.

    Examples:
        >>> config = micota.compose(["experiment=tiny", "data=strong"])
        >>> config.student.sft.batch_size
        16
    """
    if command not in SCHEMAS:
        raise ConfigError(f"command={command!r}; accepted: {', '.join(SCHEMAS)}")
    with composing(config_dir):
        config: Config = prepared(overrides, command, config_dir)
    return config


def generate(settings: Settings = (), config_dir: str | Path | None = None) -> Path:
    """Make the training data of one recipe, as ``micota generate``.

    Args:
        settings: overrides, or a config that ``compose(..., "generate")`` made.
        config_dir: as for :func:`compose`.

    Returns:
        The artifact's folder; ``data.jsonl`` in it has an example a line.

    Raises:
        ConfigError: a setting is not accepted.
        ArtifactError: an input is not there yet; the text has the commands that make it.

    Examples:
        >>> folder = micota.generate(["experiment=tiny", "data=strong"])
        >>> (folder / "data.jsonl").exists()
        True
    """
    config = _config(settings, "generate", config_dir)
    return _made(config, "generate", graph.student_data(config))


def train(settings: Settings = (), config_dir: str | Path | None = None) -> Path:
    """Fine-tune the student on the data of one recipe, or with ``role=ta`` the teacher assistant, as ``micota train``.

    Args:
        settings: overrides, or a config that ``compose(..., "train")`` made.
        config_dir: as for :func:`compose`.

    Returns:
        The model's folder, which ``transformers.AutoModelForCausalLM.from_pretrained`` takes.

    Raises:
        ConfigError: a setting is not accepted.
        ArtifactError: an input is not there yet; the text has the commands that make it.

    Examples:
        >>> folder = micota.train(["experiment=tiny", "data=strong"])
        >>> (folder / "model.safetensors").exists()
        True
    """
    config = _config(settings, "train", config_dir)
    return _made(config, "train", graph.trained(config, config.role))


def merge(
    base: str | Path,
    tuned: str | Path,
    *,
    base_revision: str | None = None,
    tuned_revision: str | None = None,
    method: str = "dare_ties",
    density: float | list[Any] | None = None,
    weight: float | list[Any] | None = None,
    rescale: str | None = None,
    normalize: bool | None = None,
    epsilon: float | None = None,
    gamma: float | None = None,
    dtype: str = "auto",
    seed: int = 0,
    artifacts: str | Path = "artifacts",
) -> Path:
    """Merge two models of one architecture. An existing merge is not made again.

    Args:
        base: folder, hub id or ``bundled:NAME`` of the model before fine-tuning, from which task vectors start.
        tuned: the model after fine-tuning. The merge gets its tokenizer and settings.
        base_revision, tuned_revision: the commit, tag or branch on the hub; None is the newest.
        method: an option of ``conf/merge``, as dare_ties, ties, slerp, linear.
        density: share of the task vector's elements that is left, above 0 and at most 1; or values by layer or module.
        weight: of the tuned model, from 0 (base) to 1 (tuned); or values by layer or module.
        rescale, normalize, epsilon, gamma: as in the reference of merge methods; None is the setting of the method.
        dtype: of the merged weights, float32, bfloat16 or float16; auto: that of the tuned model.
        seed: of the masks of random methods.
        artifacts: the folder for the merge.

    Returns:
        The merged model's folder; ``merge.json`` in it has norms and checks.

    Raises:
        ConfigError: a setting is not accepted, the models do not fit each other, or the disk is too small.

    Examples:
        >>> tuned = micota.train(["experiment=tiny", "data=strong"])
        >>> folder = micota.merge("bundled:student", tuned, method="linear", weight=0.5, dtype="float32")
        >>> (folder / "model.safetensors").exists()
        True
    """
    for key, path in (("base", base), ("tuned", tuned)):
        if not str(path):
            raise ConfigError(f"{key}={path!r}; accepted: a folder, a hub id or bundled:NAME")
    config = compose([f"merge={method}", "tracker=none", f"seed={seed}"], "merge")
    config.artifacts = str(artifacts)
    given = {"density": density, "weight": weight, "rescale": rescale, "normalize": normalize, "epsilon": epsilon}
    for name, value in {**given, "gamma": gamma, "dtype": dtype}.items():
        if value is not None:
            setattr(config.merge, name, value)
    for complaint in complaints(config.merge, "merge."):
        raise ConfigError(complaint)
    config.merge.base = OtherModelConfig(path=str(base), revision=base_revision)
    config.merge.tuned = OtherModelConfig(path=str(tuned), revision=tuned_revision)
    fingerprint_inputs(config)
    return _made(config, "merge", graph.merged(config))


def evaluate(settings: Settings = (), config_dir: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """Answer benchmarks and grade the answers, as ``micota evaluate``.

    Args:
        settings: overrides, or a config that ``compose(..., "evaluate")`` made.
        config_dir: as for :func:`compose`.

    Returns:
        By benchmark: ``accuracy`` from 0 to 1 with the bounds ``low`` and ``high`` of its 95 % interval,
        ``num_problems``, ``outcomes`` and others. Empty with ``rank_shift=true``, which grades nothing.

    Raises:
        ConfigError: a setting is not accepted.
        ArtifactError: an input is not there yet; the text has the commands that make it.

    Examples:
        >>> scores = micota.evaluate(["experiment=tiny", "data=instruct", "bench=[tiny_easy]"])
        >>> 0 <= scores["easy"]["low"] <= scores["easy"]["accuracy"] <= 1
        True
    """
    from micota.grading.scores import summarise

    config = _config(settings, "evaluate", config_dir)
    assert isinstance(config, EvaluateConfig)
    targets = graph.evaluation(config)
    execute(config, "evaluate", targets, Console(quiet=True))
    store = Store(config.artifacts)
    nodes = [node for node in targets if isinstance(node.spec, ScoresSpec)]
    return {str(node.benchmark): summarise(read_scores(store.verified(node))) for node in nodes}


def grade(rows: Iterable[Mapping[str, Any]], *, grader: str = "typed", num_workers: int = 1) -> list[dict[str, Any]]:
    """Grade answers of any model by every rule. Symbolic comparisons run in worker processes with limits.

    Args:
        rows: ``id``, ``completion`` (text of the model) and ``answer`` (text or number), and if wanted
            ``answer_type``, ``tolerance``, ``finish_reason`` and ``problem``; ids are unique.
        grader: typed or paper_rule; ``correct`` is its verdict.
        num_workers: processes.

    Returns:
        For each row ``id``, ``prediction`` (text or None), ``correct`` (None where it is undecided), ``reason``,
        and ``graders``, the verdict of each grader.

    Raises:
        SourceError: a row lacks a field or has a wrong one; the text names its number.
        ConfigError: there is no such grader.

    Examples:
        >>> [row] = micota.grade([{"id": 1, "completion": "So it is \\\\boxed{1/2}.", "answer": "0.5"}])
        >>> row["correct"]
        True
    """
    evaluation = EvaluationConfig(grader=grader, num_workers=num_workers)
    for complaint in complaints(evaluation):
        raise ConfigError(complaint)
    return graded(rows, "row", evaluation, Console(quiet=True))[0]


def load_results(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Results:
    """The results of an experiment that ``micota pipeline OVERRIDES`` ran, over all seeds at which it is finished.

    A relative folder of artifacts is looked up in the current folder and its parents.

    Args:
        overrides: those that the pipeline ran with.
        config_dir: as for :func:`compose`.

    Raises:
        ConfigError: an override is not accepted.
        ArtifactError: the experiment has not been run; the text has the command.

    Examples:
        >>> results = micota.load_results(["experiment=tiny"])
        >>> [row.name for row in results.cases[0].summary.recipes][:2]
        ['instruct', 'strong']
    """
    from micota.cli.report import finished_seeds, report_folder
    from micota.report.collect import case_reports

    with composing(config_dir):
        config = prepared(overrides, "report", config_dir)
        config.artifacts = str(_above(Path(config.artifacts).expanduser()))
        cases = experiments.cases(config)
    store = Store(config.artifacts)
    by_seed = finished_seeds(config, cases, store, report_folder(config, cases))
    if not by_seed:
        line = config.call.line("pipeline", config.overrides)
        raise ArtifactError(f"there is nothing to read yet; run:  {line}")
    reports = case_reports(store, config.name, by_seed, config.compare.baseline, config.compare.stop)
    return Results(store=store, cases=reports, call=config.call)


def _config(settings: Settings, command: str, config_dir: str | Path | None) -> Any:
    if not isinstance(settings, Config):
        config = compose(settings, command, config_dir)
    elif isinstance(settings, SCHEMAS[command]):
        config = settings
    else:
        kind = type(settings).__name__
        raise ConfigError(f"a {kind} was given to {command}; accepted: overrides, or compose(..., {command!r})")
    for key in ON_THE_COMMAND_LINE:
        if value := getattr(config, key, None):
            shown = str(value).lower() if value is True else value
            raise ConfigError(
                f"{key}={shown}: a function of Python makes an artifact and prints nothing; on the command line:  "
                f"micota {command} {key}={shown}"
            )
    return config


def _made(config: Config, command: str, node: AnyNode) -> Path:
    execute(config, command, [node], Console(quiet=True))
    return Store(config.artifacts).path(node)


def _above(folder: Path) -> Path:
    """The folder below the current one or, if it is not there, below the nearest parent that has it."""
    here = Path.cwd()
    return next((parent / folder for parent in (here, *here.parents) if (parent / folder).is_dir()), here / folder)
