"""What determines each kind of artifact, and so enters its key; where things run stays out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from micota.config import QuestionsConfig, SamplingConfig, SelectConfig, SftConfig, SourceConfig, ThinkingConfig


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model that is not ours to make: on the hub, in a folder, or bundled."""

    path: str
    revision: str | None
    fingerprint: str | None


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """How a problem is put to a model: as one chat turn (after ``system``), or as bare text."""

    template: str
    system: str | None
    as_chat: bool = True


@dataclass(frozen=True, kw_only=True)
class CompletionsSpec:
    """``seed`` is null for greedy decoding, which does not depend on it. How answers are graded stays out: completions
    are graded again, never drawn again. ``thinking`` is of the model that writes."""

    questions: QuestionsConfig
    prompt: Prompt
    sampling: SamplingConfig
    thinking: ThinkingConfig
    engine: str
    dtype: str
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Filters over one author's completions, or a mixture of parts (``weights``), or of each problem one of the parts'
    completions (``select_by``), or rows of the user (``path``).

    ``held_out`` are the benchmarks that the problems of completions are checked against, ``thinking`` the tags of the
    author. Where ``select.match`` makes arms alike, the inputs are the data of all their authors, and ``compared`` has
    the weights of each arm (all 0: the likeliest of its candidates), of which this one is ``compared_as``."""

    arm: str
    problems: SourceConfig
    held_out: dict[str, SourceConfig]
    prompt: Prompt
    select: SelectConfig
    thinking: ThinkingConfig
    weights: dict[str, float]
    select_by: str | None
    compared: dict[str, dict[str, float]]
    compared_as: str | None
    path: str | None
    fingerprint: str | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """``seed`` orders the examples."""

    sft: SftConfig
    precision: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class MergeSpec:
    """The fields of MergeConfig that determine a merge; ``seed`` draws the masks."""

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


@dataclass(frozen=True, kw_only=True)
class ProbeSpec:
    """Merges measured in memory. Of ``merge``, density and weight are open (null) and the seed is the first of
    ``num_seeds``; the last three fields are of a calibration alone."""

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


@dataclass(frozen=True, kw_only=True)
class ScoresSpec:
    """Whose answers count as right. Of the judge, the model that answers counts, not where it runs."""

    problems: SourceConfig
    grader: str
    judge: str | None


@dataclass(frozen=True, kw_only=True)
class ReadingSpec:
    """How a model is run that reads and does not write: to measure BPC, or ranks of tokens."""

    precision: str
