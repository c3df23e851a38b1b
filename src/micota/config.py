"""The schema of every configuration group, and ``parse``: YAML holds values, dataclasses hold types and checks.

A field is declared with ``where(accepted, check)``; ``parse`` walks the finished tree and names the first field whose
value is not accepted by its full key, as a user would type it on the command line.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING as REQUIRED
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)


class ConfigError(ValueError):
    """A mistake in the user's configuration; the text names the key, the value seen and the accepted form."""


def where(
    accepted: str, check: Callable[[Any], bool], default: Any = REQUIRED, *, default_factory: Any = REQUIRED
) -> Any:
    """Declare a dataclass field whose value must pass ``check``; ``accepted`` says so in words."""
    return field(default=default, default_factory=default_factory, metadata={"accepted": accepted, "check": check})


def choice(*options: str, default: Any = REQUIRED) -> Any:
    """A field that is one of a few words."""
    return where("one of " + ", ".join(options), lambda value: value in options, default)


def positive(default: Any = REQUIRED) -> Any:
    """A field above 0; where it may be null, null stands for no limit."""
    return where("a number above 0", lambda value: value is None or 0 < value < math.inf, default)


def fraction(default: Any = REQUIRED) -> Any:
    """A field from 0 to 1."""
    return where("a number from 0 to 1", lambda value: 0 <= value <= 1, default)


def non_negative(default: Any = REQUIRED) -> Any:
    """A field of at least 0."""
    return where("a number of at least 0", lambda value: 0 <= value < math.inf, default)


def shares() -> Any:
    """A list of at least one number above 0 and at most 1."""
    accepted = "a list of at least one number above 0 and at most 1"
    return where(accepted, lambda values: bool(values) and all(0 < value <= 1 for value in values))


def slug(default: Any = REQUIRED) -> Any:
    """A name that becomes part of a folder's name."""
    accepted = "letters, digits, dot, dash and underscore"
    return where(accepted, lambda value: bool(value) and all(c.isalnum() or c in "._-" for c in value), default)


@dataclass(kw_only=True)
class SamplingConfig:
    """How completions are drawn from a model. ``max_tokens`` counts new tokens; temperature 0 is greedy."""

    temperature: float = non_negative(0.0)
    top_p: float = where("above 0 and at most 1", lambda value: 0 < value <= 1, 1.0)
    max_tokens: int = positive(16384)
    num_samples: int = positive(1)

    def conflicts(self) -> Iterator[str]:
        if self.num_samples > 1 and self.temperature == 0:
            yield f"num_samples={self.num_samples} with temperature=0 repeats one answer; set temperature above 0"


@dataclass(kw_only=True)
class LoraConfig:
    """Low-rank adapters (arXiv 2106.09685), named as in peft; ``targets`` are names of linear layers, or all."""

    r: int = positive()
    alpha: int = positive()
    dropout: float = where("a number from 0 to below 1", lambda value: 0 <= value < 1, 0.0)
    targets: list[str] = where(
        "a list of names of linear layers, or [all-linear]", bool, default_factory=lambda: ["all-linear"]
    )


@dataclass(kw_only=True)
class SftConfig:
    """Supervised fine-tuning. Batch sizes count examples; ``max_tokens`` is prompt + completion + eos.

    ``validation_fraction`` is the share of examples that is held out, to watch the loss on; ``lora`` null is full
    fine-tuning.
    """

    learning_rate: float = positive()
    batch_size: int = positive()
    epochs: int = positive()
    warmup_ratio: float = fraction(0.0)
    weight_decay: float = non_negative(0.01)
    max_grad_norm: float = positive(1.0)
    max_tokens: int = positive(16384)
    validation_fraction: float = where("a number from 0 to below 1", lambda value: 0 <= value < 1, 0.0)
    lora: LoraConfig | None = None


@dataclass(kw_only=True)
class ModelConfig:
    """One model: where it is, how it writes, and how it is tuned where a role needs that.

    ``path`` is a hub id, a folder, or ``bundled:NAME`` for a model shipped with the package.
    ``fingerprint`` is filled in for local folders, so that a changed folder is another model.
    """

    name: str = slug()
    path: str = where("a hub id, a folder or bundled:NAME", bool)
    revision: str | None = None
    fingerprint: str | None = None
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    sft: SftConfig | None = None


@dataclass(kw_only=True)
class OtherModelConfig(ModelConfig):
    """A model that need not be there (``path`` null): any option of the group ``model``, or a folder or hub id. A
    dataclass and not null, since Hydra cannot set what is below a null from the command line."""

    name: str | None = None  # type: ignore[assignment]  # null: the last part of the path
    path: str | None = None  # type: ignore[assignment]


ANSWER_TYPES = ("auto", "integer", "number", "expression", "text", "list", "tuple", "interval", "matrix")
GRADERS = ("typed", "paper_rule", "judge")
PAPER_RULES = ("hendrycks", "zeros", "gsm8k")


@dataclass(kw_only=True)
class QuestionsConfig:
    """Rows of problems to ask: a hub data set, a local JSONL file, or ``bundled:NAME`` shipped with the package.

    A column may be a dotted path into nested fields (``meta.unit``).
    """

    path: str = where("a hub data set id, a .jsonl file or bundled:NAME.jsonl", bool)
    revision: str | None = None
    fingerprint: str | None = None
    subset: str | None = None
    split: str = "train"
    id_column: str | None = None
    problem_column: str = "problem"
    limit: int | None = positive(None)  # use only the first rows


@dataclass(kw_only=True)
class SourceConfig(QuestionsConfig):
    """Problems with their gold answers, and how those are compared. None of this changes what a model is asked.

    ``answer_type`` holds for all rows; where rows differ, ``type_column`` names the column and ``types`` translates its
    words. ``list_column`` marks rows whose answer is a list in any order.
    """

    answer_column: str = "answer"
    answer_after: str | None = None  # the answer is what follows this mark in its column, as GSM8K's "####"
    num_rows: int | None = positive(None)  # asserted after loading
    answer_type: str = choice(*ANSWER_TYPES, default="auto")
    type_column: str | None = None
    types: dict[str, str] = where(
        "a map from words of type_column to answer types (" + ", ".join(ANSWER_TYPES) + ")",
        lambda value: all(kind in ANSWER_TYPES for kind in value.values()),
        default_factory=dict,
    )
    list_column: str | None = None
    unit_column: str | None = None
    tolerance_column: str | None = None
    paper_rule: str = choice(*PAPER_RULES, default="hendrycks")


@dataclass(kw_only=True)
class ProblemsConfig(SourceConfig):
    """The pool of training problems that every arm of a comparison draws from."""

    name: str = slug()


@dataclass(kw_only=True)
class OtherProblemsConfig(ProblemsConfig):
    """Problems that need not be named (``path`` null)."""

    name: str | None = None  # type: ignore[assignment]
    path: str | None = None  # type: ignore[assignment]


@dataclass(kw_only=True)
class BenchConfig(SourceConfig):
    """One benchmark."""


@dataclass(kw_only=True)
class PromptConfig:
    """How a problem becomes a prompt: one for generation, training and evaluation, unless ``evaluation_template`` says
    otherwise. ``generation_as_chat=false`` sends the bare text when data are generated, without the chat template."""

    template: str = where("a text that contains {problem}", lambda value: "{problem}" in value)
    system: str | None = None
    evaluation_template: str | None = where(
        "null, or a text that contains {problem}", lambda value: value is None or "{problem}" in value, None
    )
    generation_as_chat: bool = True


FILTERS = ("finished", "correct", "length", "loops", "duplicates")
AUTHORS = ("teacher", "ta", "ta_sft", "ta_merged", "large", "small")
ROLES = ("student", *AUTHORS)
ARM_AUTHORS = (*AUTHORS, "none")


@dataclass(kw_only=True)
class SelectConfig:
    """What makes completions into training data: the same for every arm, so that arms differ in their author only.

    ``max_tokens`` is the limit of the ``length`` filter; ``loops`` drops a text of whose sequences of ``loop_words``
    words more than ``loop_share`` occurred in it before; ``duplicates`` what another sample of the problem says word
    for word. Of the samples of a problem that pass, ``best_of`` takes the shortest, the one of median length, or all.
    ``num_examples`` is the size of each arm (null: all there are).
    ``decontaminate`` says which training problems are dropped for being in ``held_out``: those that restate one of its
    problems, only those with the same text (``exact``), or none.
    """

    filters: list[str] = where(
        "a list of filters out of " + ", ".join(FILTERS), lambda value: all(name in FILTERS for name in value)
    )
    max_tokens: int = positive(16000)
    loop_words: int = positive(10)
    loop_share: float = fraction(0.5)
    best_of: str = choice("shortest", "median", "all", default="all")
    num_examples: int | None = positive(None)
    decontaminate: str = choice("restated", "exact", "none", default="restated")


@dataclass(kw_only=True)
class PartConfig:
    """One author's share of the training data, or rows of the user's own (``path``)."""

    name: str = slug()
    author: str = choice(*ARM_AUTHORS, default="none")
    path: str | None = None
    fingerprint: str | None = None


@dataclass(kw_only=True)
class DataConfig(PartConfig):
    """One arm. Either an author, or ``parts`` mixed by ``weights``, or ``path``; ``instruct`` has none of them."""

    parts: dict[str, PartConfig] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    @property
    def is_untuned(self) -> bool:
        return self.author == "none" and not self.parts and self.path is None

    def conflicts(self) -> Iterator[str]:
        if set(self.weights) != set(self.parts):
            yield f"weights name {sorted(self.weights)} but parts are {sorted(self.parts)}; name the same parts in both"
        elif self.parts and (min(self.weights.values()) <= 0 or abs(sum(self.weights.values()) - 1) > 1e-6):
            yield f"weights={dict(self.weights)}; accepted: numbers above 0 that sum to 1"
        if self.parts and (self.author != "none" or self.path):
            yield "a mixture has parts and weights, and neither author nor path"


MERGE_METHODS = (
    "dare_ties",
    "dare_linear",
    "ties",
    "task_arithmetic",
    "linear",
    "slerp",
    "della",
    "breadcrumbs",
)  # fmt: skip
SMALLEST = 5e-324  # the least number above 0
BY_TENSOR = ", or a list of such (a gradient over the layers), or a list of {filter, value} of which the first fits"


def by_tensor(lowest: float, default: Any = REQUIRED) -> Any:
    """A share above 0 and at most 1: one number, a gradient over layers, or values by module (from ``lowest`` on)."""

    def is_share(value: Any, lowest: float) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and lowest <= value <= 1

    def is_gradient(value: Any) -> bool:
        return isinstance(value, list) and bool(value) and all(is_share(item, lowest) for item in value)

    def is_value(item: Any) -> bool:
        return isinstance(item, dict) and item.keys() <= {"filter", "value"} and fits(item.get("value"), lowest)

    def fits(value: Any, lowest: float = SMALLEST) -> bool:
        listed = isinstance(value, list) and bool(value) and all(is_value(item) for item in value)
        return listed or is_gradient(value) or is_share(value, lowest)

    return where("a number above 0 and at most 1" + BY_TENSOR, fits, default)


@dataclass(kw_only=True)
class MergeConfig:
    """A merge of the TA before and after SFT. Names as in mergekit.

    Without ``base`` the task vector is SFT's: the TA before it is the base. With a pre-trained ``base`` both are merged
    into it, the TA before SFT with ``instruct_density`` and ``instruct_weight``.
    With ``target_length_ratio`` weight and density are found by calibration (``sweep``) and those here do not count.
    """

    method: str = choice(*MERGE_METHODS)
    density: Any = by_tensor(SMALLEST, 1.0)
    weight: Any = by_tensor(0, 0.5)
    base: OtherModelConfig = field(default_factory=OtherModelConfig)
    instruct_density: Any = by_tensor(SMALLEST, 0.5)
    instruct_weight: Any = by_tensor(0, 0.5)
    rescale: str = choice("dare", "norm", "none", default="none")
    normalize: bool = False
    epsilon: float = where("a number from 0 to below 0.5", lambda value: 0 <= value < 0.5, 0.0)
    gamma: float = where("a number from 0 to below 1", lambda value: 0 <= value < 1, 0.0)
    dtype: str = choice("float32", "bfloat16", default="bfloat16")
    target_length_ratio: float | None = where(
        "a number above 0 and below 1, or null", lambda value: value is None or 0 < value < 1, None
    )

    def conflicts(self) -> Iterator[str]:
        if self.rescale == "dare" and self.method in ("ties", "breadcrumbs"):
            yield f"rescale=dare with method={self.method}: it keeps the largest, not at random; use norm or none"
        if self.method == "slerp" and self.base.path is not None:
            yield "method=slerp with a base of its own: the arc has two ends; use another method, or base=null"
        if self.method == "della":
            low, high = min(numbers(self.density)) - self.epsilon, max(numbers(self.density)) + self.epsilon
            if self.epsilon > 0 and (low <= 0 or high >= 1):
                yield f"density={self.density} with epsilon={self.epsilon}; accepted: both sums between 0 and 1"


def numbers(setting: Any) -> list[float]:
    """All numbers of a setting that may differ between tensors."""
    if isinstance(setting, list):
        return [value for item in setting for value in numbers(item["value"] if isinstance(item, dict) else item)]
    return [float(setting)]


@dataclass(kw_only=True)
class SweepConfig:
    """Merges measured in memory, on the first ``num_problems`` of ``problems`` (null: those of training), at every pair
    of density and weight, with the masks of ``num_seeds`` seeds from ``seed`` on.

    Calibration starts from the same points and goes on between those on both sides of the wanted length, until it is
    within ``tolerance`` (a share of it) or ``num_steps`` more weights have been tried for each density.
    """

    problems: OtherProblemsConfig = field(default_factory=OtherProblemsConfig)
    num_problems: int = positive(100)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    densities: list[float] = shares()
    weights: list[float] = shares()
    num_seeds: int = positive(1)
    tolerance: float = where("a number above 0 and below 1", lambda value: 0 < value < 1, 0.05)
    num_steps: int = positive(4)


@dataclass(kw_only=True)
class EndpointConfig:
    """An OpenAI-compatible API, and how patiently it is asked. The key, if one is needed, is read from
    ``key_variable``."""

    url: str = where("the base URL of an OpenAI-compatible API, as http://localhost:8000/v1", lambda v: "://" in v)
    key_variable: str = "OPENAI_API_KEY"
    timeout_s: float = positive(60.0)
    retries: int = non_negative(4)


@dataclass(kw_only=True)
class JudgeConfig(EndpointConfig):
    """A model behind an endpoint that is asked whether an answer is right; its column stands beside those of the rules
    and is never mixed into them. Off where ``url`` is null."""

    url: str | None = where(  # type: ignore[assignment]
        "null, or the base URL of an OpenAI-compatible API, as http://localhost:8000/v1",
        lambda value: value is None or "://" in value,
        None,
    )
    model: str | None = None
    max_tokens: int = positive(16)
    concurrency: int = positive(16)


@dataclass(kw_only=True)
class EvaluationConfig:
    """How answers are drawn for evaluation (greedy by default) and graded. All graders run; ``grader`` is the score.

    ``answer_s`` and ``worker_bytes`` limit the time of one symbolic comparison and the memory of the process it runs
    in; ``num_workers`` null is one process a core.
    """

    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    grader: str = choice(*GRADERS, default="typed")
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    num_workers: int | None = positive(None)
    answer_s: float = positive(5.0)
    worker_bytes: int = where("a number of bytes of at least 512 MiB", lambda value: value >= 2**29, 2 * 2**30)

    def conflicts(self) -> Iterator[str]:
        is_half = (self.judge.url is None) != (self.judge.model is None)
        if is_half or (self.grader == "judge" and self.judge.url is None):
            yield "a judge needs both judge.url and judge.model; grader=judge needs a judge"


@dataclass(kw_only=True)
class ServerConfig(EndpointConfig):
    """The server of ``engine=server``. ``extra_body`` is sent with each request, for what one server knows and another
    does not."""

    model: str | None = None
    extra_body: dict[str, Any] = field(default_factory=dict)


ENGINES = ("hf", "vllm", "server")
VLLM_FIELDS = ("tensor_parallel", "memory_fraction", "prefix_caching", "batch_invariant")


@dataclass(kw_only=True)
class EngineConfig:
    """What runs a model for generation. ``batch_size`` is rows at once.

    ``max_model_len`` is the longest prompt + completion (null: the model's own). The fields between are vLLM's: GPUs
    that share one model, the part of their memory that vLLM takes for itself, whether prompts that begin alike are
    computed once, and whether a row's numbers may depend on its neighbours.
    """

    name: str = choice(*ENGINES)
    batch_size: int = positive(64)
    dtype: str = choice("auto", "float32", "bfloat16", default="auto")
    device: str = choice("auto", "cpu", "cuda", default="auto")
    tensor_parallel: int = positive(1)
    memory_fraction: float = where("above 0 and at most 1", lambda value: 0 < value <= 1, 0.9)
    prefix_caching: bool = True
    batch_invariant: bool = False
    max_model_len: int | None = positive(None)
    server: ServerConfig | None = None

    @property
    def numerics(self) -> str:
        """What of an engine changes numbers, and so enters keys, beside ``dtype``."""
        return f"{self.name}-batch_invariant" if self.batch_invariant else self.name

    def conflicts(self) -> Iterator[str]:
        for item in fields(self) if self.name != "vllm" else ():
            if item.name in VLLM_FIELDS and getattr(self, item.name) != item.default:
                yield f"{item.name}={getattr(self, item.name)} is a setting of engine=vllm, and this is {self.name}"
        if self.max_model_len is not None and self.name == "hf":
            yield f"max_model_len={self.max_model_len} is a setting of engine=vllm and engine=server, and this is hf"
        if (self.server is not None) != (self.name == "server"):
            yield f"server is a setting of engine=server, which needs it, and this is {self.name}"


@dataclass(kw_only=True)
class TrainerConfig:
    """Where and how training runs: ``pack_tokens`` per packed row, ``row_batch`` rows per micro-batch, a checkpoint
    every ``checkpoint_every`` steps, the validation loss every ``validate_every`` (null: at the end alone). Weights,
    gradients and optimiser states are sharded over ``devices`` x ``num_nodes``. Of all this, ``precision`` alone
    changes results."""

    name: str = slug()
    accelerator: str = choice("cpu", "gpu")
    precision: str = choice("32-true", "bf16-mixed", "bf16-true")
    devices: int = positive(1)  # on each node
    num_nodes: int = positive(1)
    pack_tokens: int = positive(16384)
    row_batch: int = positive(1)
    attention: str = choice("auto", "flash_attn", "varlen", "sequences", "flex", "sdpa", "eager", default="auto")
    loss: str = choice("auto", "chunked", "liger", default="auto")
    checkpoint_every: int = positive(100)
    validate_every: int | None = positive(None)
    gradient_checkpointing: bool = False
    cpu_offload: bool = False  # of weights, gradients and optimiser states, where they are sharded
    check_memory: bool = True  # refuse what is not likely to fit
    peak_tflops: float | None = positive(None)  # of one device, for the MFU; null: known for common GPUs

    @property
    def world_size(self) -> int:
        return self.devices * self.num_nodes

    def conflicts(self) -> Iterator[str]:
        if self.cpu_offload and self.accelerator == "cpu":
            yield "cpu_offload=True with accelerator=cpu, where everything is there already; use trainer=gpu"


@dataclass(kw_only=True)
class TrackerConfig:
    """Where runs are tracked; offline runs of W&B are kept below the artifacts until ``wandb sync``."""

    name: str = choice("wandb", "none")
    project: str = "micota"
    entity: str | None = None
    mode: str = choice("online", "offline", default="online")


@dataclass(kw_only=True)
class CompareConfig:
    """What an experiment compares: arms of one student, and the merged TA over a range of weights."""

    arms: list[str] = where("a list of at least one option of the group data", bool)
    merge_weights: list[float] = where(
        "a list of numbers above 0 and at most 1", lambda value: all(0 < weight <= 1 for weight in value)
    )


@dataclass(kw_only=True)
class Config:
    """What every door composes."""

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
    sweep: SweepConfig
    bench: dict[str, BenchConfig]
    held_out: dict[str, BenchConfig]  # what training problems must not restate
    evaluation: EvaluationConfig
    engine: EngineConfig
    trainer: TrainerConfig
    tracker: TrackerConfig
    compare: CompareConfig
    overrides: list[str] = field(default_factory=list)  # of the command line; filled in by the door


@dataclass(kw_only=True)
class GenerateConfig(Config):
    """generate.py: ``show_prompts`` prints that many rendered prompts of each author instead, and makes nothing."""

    show_prompts: int = non_negative(0)


@dataclass(kw_only=True)
class TrainConfig(Config):
    """train.py: ``role=ta`` tunes the TA on ``ta_data``, ``role=student`` the student on ``data``. ``show_samples``
    prints so many examples as the model sees them, and stops."""

    role: str = choice("student", "ta")
    show_samples: int = non_negative(0)


@dataclass(kw_only=True)
class MergeDoorConfig(Config):
    """merge.py: ``probe=true`` measures the points of ``sweep`` in memory and writes no model."""

    probe: bool = False


@dataclass(kw_only=True)
class EvaluateConfig(Config):
    """evaluate.py: whose answers are scored. ``regrade`` scores stored completions again; ``grade`` scores a file."""

    role: str = choice(*ROLES)
    model: OtherModelConfig = field(default_factory=OtherModelConfig)
    num_samples: int = positive(1)
    temperature: float = non_negative(0.0)
    regrade: bool = False
    grade: str | None = None


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


SCHEMAS: dict[str, type[Config]] = {
    "generate": GenerateConfig,
    "train": TrainConfig,
    "merge": MergeDoorConfig,
    "evaluate": EvaluateConfig,
    "pipeline": PipelineConfig,
    "report": Config,
}

ConfigT = TypeVar("ConfigT", bound=Config)


def parse(composed: DictConfig, schema: type[ConfigT]) -> ConfigT:
    """Turn a composed Hydra config into checked dataclasses.

    Raises:
        ConfigError: one line that names the key, the value seen and what is accepted.
    """
    try:
        if OmegaConf.get_type(composed) is not schema:
            composed = OmegaConf.merge(OmegaConf.structured(schema), composed)  # type: ignore[assignment]
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error, schema)) from error
    assert isinstance(config, schema)
    for complaint in complaints(config):
        raise ConfigError(complaint)
    return config


def complaints(node: Any, path: str = "") -> Iterator[str]:
    """Every value below ``node`` that its schema does not accept, as readable lines, outermost last."""
    if isinstance(node, dict):
        for key, child in node.items():
            yield from complaints(child, f"{path}{key}.")
    if not is_dataclass(node):
        return
    for name in vars(node).keys() - {item.name for item in fields(node)}:  # added with +name=
        yield unknown_key(type(node), name, path)
    for item in fields(node):
        value = getattr(node, item.name)
        if "check" in item.metadata and not item.metadata["check"](value):
            yield f"{path}{item.name}={value!r}; accepted: {item.metadata['accepted']}"
        yield from complaints(value, f"{path}{item.name}.")
    for conflict in getattr(node, "conflicts", lambda: ())():
        yield f"{path.rstrip('.') or 'config'}: {conflict}"


def explain(error: OmegaConfBaseException, schema: type[Config]) -> str:
    """One line for an OmegaConf error: full key, what was seen, what is accepted."""
    key = error.full_key or str(error.key or "config")
    if isinstance(error, InterpolationResolutionError):
        return f"{key}: {str(error.msg).splitlines()[0]}"
    if isinstance(error, MissingMandatoryValue):
        return f"{key} is not set; accepted: {accepted_at(schema, key)}"
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        return unknown_key(schema, key)
    text = str(error.msg or error).splitlines()[0]
    return f"{key}: {text}; accepted: {accepted_at(schema, key)}"


def unknown_key(schema: type[Any], key: str, path: str = "") -> str:
    """One line for a dotted key that is not in the schema (which stands at ``path``), with the nearest one that is."""
    *parents, last = key.split(".")
    owner: Any = schema
    for depth, name in enumerate(parents):
        owner = child_schema(owner, name)
        if owner is None:
            return unknown_key(schema, ".".join(parents[: depth + 1]), path)
    options = [item.name for item in fields(owner)] if is_dataclass(owner) else []
    close = difflib.get_close_matches(last, options, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ";"
    return f"{path}{key}: no such key{hint} accepted: {', '.join(options)}"


def child_schema(owner: Any, name: str) -> Any:
    """The type of the field ``name`` (a dataclass where it is one), or of a dict's values; None if there is none."""
    if get_origin(owner) is dict:
        return get_args(owner)[1]
    kind = get_type_hints(owner).get(name) if is_dataclass(owner) else None
    return next((part for part in get_args(kind) if is_dataclass(part)), kind) if get_origin(kind) is not dict else kind


def accepted_at(schema: type[Config], key: str) -> str:
    """What the field at a dotted key accepts, in words."""
    owner: Any = schema
    words = ""
    for name in key.split("."):
        item = next((f for f in fields(owner) if f.name == name), None) if is_dataclass(owner) else None
        words = item.metadata.get("accepted", "") if item else ""
        owner = child_schema(owner, name)
    kind = str(owner) if get_args(owner) or owner is None else owner.__name__
    return f"{words} ({kind})" if words else kind


def without_keys(overrides: list[str], keys: set[str]) -> list[str]:
    """Command-line overrides less those of the given keys."""
    return [item for item in overrides if item.split("=", 1)[0].lstrip("+~") not in keys]


def command(door: str, overrides: list[str], choose: Mapping[str, str]) -> list[str]:
    """The arguments after ``python`` with which a door makes a node, given the overrides of the present command."""
    shared = {item.name for item in fields(Config)}
    own = {item.name for schema in SCHEMAS.values() for item in fields(schema)} - shared
    kept = without_keys(overrides, own | {"data", "plan", *choose})
    return [f"{door}.py", *(f"{key}={value}" for key, value in choose.items()), *kept]
