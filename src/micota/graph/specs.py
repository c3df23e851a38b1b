"""The settings that determine each kind of artifact and enter its key. Where a stage runs is not among them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from micota.config import QuestionsConfig, SamplingConfig, SelectConfig, SftConfig, SourceConfig, ThinkingConfig
from micota.config.rows import RowsConfig
from micota.graph.node import Node, Spec, added


@dataclass(frozen=True, kw_only=True)
class SourceSpec(Spec):
    """A model that exists before the experiment: on the hub, in a folder, or bundled. ``template`` replaces the chat
    template of its tokenizer, ``template_args`` are variables of it, ``date_string`` is the date in its prompts."""

    stage = "source"
    kind = "source"

    path: str
    revision: str | None
    fingerprint: str | None
    template: str | None = added(lambda: None)
    template_args: dict[str, Any] = added(dict)
    date_string: str | None = added(lambda: None)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """The prompt of a problem: one chat turn (after ``system``), or bare text."""

    template: str
    system: str | None
    as_chat: bool = True


@dataclass(frozen=True, kw_only=True)
class CompletionsSpec(Spec):
    """``seed`` is null for greedy decoding, which does not depend on it. Grading is not part of the spec: completions
    are graded again, never sampled again. ``thinking`` is of the model that generates, ``extra_body`` goes to a server
    with each request."""

    stage = "generate"
    kind = "completions"

    questions: QuestionsConfig
    prompt: Prompt
    sampling: SamplingConfig
    thinking: ThinkingConfig
    engine: str
    dtype: str
    extra_body: dict[str, Any]
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class DataSpec(Spec, ABC):
    """The training data of a recipe: what all ways to build them have in common.

    ``seed`` orders the problems. ``problems`` is null where no model of the experiment generated a row.
    """

    stage = "select"
    kind = "data"

    recipe: str
    problems: SourceConfig | None
    prompt: Prompt
    select: SelectConfig
    seed: int

    @property
    @abstractmethod
    def how(self) -> str:
        """How the rows were chosen, in a few words."""


@dataclass(frozen=True, kw_only=True)
class FilteredSpec(DataSpec):
    """Filters over one generator's completions.

    ``decontaminate_against`` are the benchmarks that the problems are checked against, ``thinking`` the generator's
    tags.
    """

    decontaminate_against: dict[str, SourceConfig]
    thinking: ThinkingConfig

    @property
    def how(self) -> str:
        return f"kept by {', '.join(self.select.filters)}"


@dataclass(frozen=True, kw_only=True)
class MixtureSpec(DataSpec):
    """The data of several parts, mixed by ``weights``, which sum to 1."""

    weights: dict[str, float]

    @property
    def how(self) -> str:
        return f"mixed {shares(self.weights)}"


@dataclass(frozen=True, kw_only=True)
class MostLikelySpec(DataSpec):
    """For each problem the completion of several parts that ``select_by`` ranks first."""

    select_by: str

    @property
    def how(self) -> str:
        return f"of each problem one by {self.select_by}"


@dataclass(frozen=True, kw_only=True)
class MatchedSpec(DataSpec):
    """The data of one recipe out of several that ``select.match`` makes alike; the inputs are those of all of them.

    ``compared`` has the weights of each recipe (all 0: the first of its candidates by ``select_by``), of which this one
    is ``compared_as``.
    """

    compared: dict[str, dict[str, float]]
    select_by: dict[str, str]
    compared_as: str

    @property
    def how(self) -> str:
        mixed = {part: share for part, share in self.compared[self.compared_as].items() if share}
        return f"matched by {self.select.match}, {shares(mixed) or f'by {self.select_by[self.compared_as]}'}"


@dataclass(frozen=True, kw_only=True)
class RowsSpec(DataSpec):
    """Rows that no model of the experiment generated: a file, a folder or a set of the hub.

    ``tokenizer`` is the model whose tokens are counted in completions. Rows with a gold answer are checked against
    ``decontaminate_against``.
    """

    rows: RowsConfig
    tokenizer: SourceSpec
    decontaminate_against: dict[str, SourceConfig]

    @property
    def how(self) -> str:
        return f"rows of {self.rows.path}"


DATA_SPECS = (FilteredSpec, MixtureSpec, MostLikelySpec, MatchedSpec, RowsSpec)
MATCHED = "matched"  # the input of a round's data that has its problems, where recipes are matched


def parts_of(node: Node[Any]) -> dict[str, Node[Any]]:
    """The data that a data node is mixed or chosen from, by label."""
    return {label: child for label, child in node.inputs.items() if child.stage == "select" and label != MATCHED}


def needs_no_model(node: Node[Any]) -> bool:
    """Whether a node is data that are read or mixed alone, so that any command can make them."""
    return isinstance(node.spec, DataSpec) and all(needs_no_model(child) for child in node.inputs.values())


def shares(weights: Mapping[str, float]) -> str:
    """``0.2 strong, 0.8 short``."""
    return ", ".join(f"{share:g} {part}" for part, share in weights.items())


def weights_of(spec: Spec) -> dict[str, float]:
    """The share of each part of a mixture; empty for other data."""
    if isinstance(spec, MatchedSpec):
        weights = spec.compared[spec.compared_as]
        return dict(weights) if any(weights.values()) else {}
    return dict(spec.weights) if isinstance(spec, MixtureSpec) else {}


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """The settings of an objective with a teacher; ``beta`` is null for divergences without it, ``sampling`` and
    ``round_steps`` for objectives on the data's answers."""

    name: str
    divergence: str
    beta: float | None
    temperature: float
    hard_weight: float
    top_k: int | None
    sampling: SamplingConfig | None = None
    round_steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrainSpec(Spec):
    """``seed`` orders the examples. ``attention`` and ``loss`` are as in the config: ``auto`` is one key everywhere.
    ``objective`` is null for SFT; its teacher is an input. ``validation_of`` says what the share for validation is of:
    null for none, and in artifacts that divided problems by id alone."""

    stage = "train"
    kind = "models"

    sft: SftConfig
    precision: str
    attention: str
    loss: str
    seed: int
    quantize: str = added(lambda: "none")
    objective: Distillation | None = added(lambda: None)
    validation_of: str | None = added(lambda: None)


@dataclass(frozen=True, kw_only=True)
class MergeSpec(Spec):
    """The fields of MergeConfig that determine a merge; ``seed`` determines the masks."""

    stage = "merge"
    kind = "models"

    method: str
    density: Any
    weight: Any
    instruct_density: Any
    instruct_weight: Any
    rescale: str
    normalize: bool
    epsilon: float
    gamma: float
    dtype: str
    seed: int
    scale: float = added(lambda: 1.0)


@dataclass(frozen=True, kw_only=True)
class MergekitSpec(Spec):
    """A configuration of mergekit whose models are labels of inputs; ``seed`` is that of mergekit's random masks. The
    tokenizer is that of the input ``tuned``."""

    stage = "mergekit"
    kind = "models"

    config: dict[str, Any]
    seed: int

    @property
    def method(self) -> str:
        """The method of mergekit."""
        return f"mergekit {self.config['merge_method']}"


MERGED = ("base", "tuned", "instruct")  # the inputs of a merge in order; the TA before SFT last, if base is another


@dataclass(frozen=True, kw_only=True)
class StudentSpec:
    """How the student measures the right answers of one merge, which become ``data``: by its likelihood of them
    (``likelihood``), or by its ``scores`` for its ``answers`` after it is tuned on them (``train``)."""

    data: FilteredSpec
    likelihood: LikelihoodSpec | None = None
    train: TrainSpec | None = None
    answers: CompletionsSpec | None = None
    scores: ScoresSpec | None = None


@dataclass(frozen=True, kw_only=True)
class MergeSweepSpec(Spec):
    """Merges measured in memory. Of ``merge``, density and weight are open (null) and the seed is the first of
    ``num_seeds``. ``target_length_ratio`` and ``tolerance`` are of a calibration to a length, ``target`` and
    ``accuracy_loss`` of one for a number, ``student`` where the student measures it, ``num_blocks`` and ``num_points``
    of evolution."""

    stage = "merge_sweep"
    kind = "merge_sweeps"

    merge: MergeSpec
    problems: SourceConfig
    answers: CompletionsSpec
    grader: str
    densities: list[float]
    weights: list[float]
    num_seeds: int
    target_length_ratio: float | None
    tolerance: float | None
    num_steps: int | None
    target: str | None = added(lambda: None)
    search: str = added(lambda: "grid")
    accuracy_loss: float | None = added(lambda: None)
    num_blocks: int | None = added(lambda: None)
    num_points: int | None = added(lambda: None)
    student: StudentSpec | None = added(lambda: None)

    @property
    def is_calibration(self) -> bool:
        """Whether a merge is chosen, and not all points of the grid are measured."""
        return self.target is not None or self.target_length_ratio is not None

    @property
    def num_merges(self) -> int:
        """The most merges that are measured, each seed of the masks counted."""
        grid = len(self.densities) * (len(self.weights) + (self.num_steps or 0))
        return (self.num_points or grid) * self.num_seeds


@dataclass(frozen=True, kw_only=True)
class MergePointSpec(Spec):
    """The answers of one point of a merge sweep, which all sweeps that have the point share. ``form`` is merged, or
    before or after (SFT), for which ``merge`` is null. Grading is not part of the spec."""

    stage = "merge_sweep"
    kind = "merge_points"

    form: str
    merge: MergeSpec | None
    answers: CompletionsSpec


@dataclass(frozen=True, kw_only=True)
class ScoresSpec(Spec):
    """The problems and the grader. Of the judge, the model enters the key, and not the address. The columns are those
    of a problem's level and subject."""

    stage = "grade"
    kind = "scores"

    problems: SourceConfig
    grader: str
    judge: str | None
    level_column: str | None = None
    subject_column: str | None = None
    budgets: list[int] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class LikelihoodSpec(Spec):
    """The numerics of the model that measures the data, and the largest rank of a token."""

    stage = "likelihood"
    kind = "bpc"

    precision: str
    rank_clip: int


@dataclass(frozen=True, kw_only=True)
class RankShiftSpec(Spec):
    """The numerics of the model that ranks the tokens."""

    stage = "rank_shift"
    kind = "rank_shifts"

    precision: str


@dataclass(frozen=True, kw_only=True)
class ForecastSpec(Spec):
    """The recipes whose gains are forecast, and the finished trainings behind it: ``outcomes`` is the sum of their
    table."""

    stage = "forecast"
    kind = "forecasts"

    recipes: list[str]
    outcomes: str


@dataclass(frozen=True, kw_only=True)
class DeterminismSpec(Spec):
    """The evaluation that is repeated, and the settings with which it is repeated; ``left_out`` has the engines that
    are not installed, by name, with the reason."""

    stage = "determinism"
    kind = "determinism"

    answers: CompletionsSpec
    problems: SourceConfig
    grader: str
    batch_sizes: list[int]
    num_threads: list[int]
    engines: list[str]
    left_out: dict[str, str]
