"""Schemas of the method: recipes of data, merges, and what is compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from micota.config.fields import (
    SMALLEST,
    Words,
    by_tensor,
    choice,
    fraction,
    numbers,
    one_of,
    positive,
    shares,
    slug,
    where,
)
from micota.config.filters import FILTERS, Filter
from micota.config.merge_methods import MERGE_METHODS, MergeMethod
from micota.config.models import OtherModelConfig, SamplingConfig
from micota.config.problems import OtherProblemsConfig

GENERATORS = ("teacher", "ta", "ta_sft", "ta_merged", "large", "small")
ROLES = ("student", *GENERATORS)
RECIPE_GENERATORS = (*GENERATORS, "none")


@dataclass(kw_only=True)
class SelectConfig:
    """What makes completions into training data: the same for every recipe, so that recipes differ in their generator
    only.

    ``max_tokens`` is the limit of the ``length`` filter; ``loops`` drops a text of whose sequences of ``loop_words``
    words more than ``loop_share`` occurred in it before; ``duplicates`` what another sample of the problem says word
    for word. Of the samples of a problem that pass, ``keep_sample`` takes the shortest, the one of median length, or
    all. ``num_examples`` is the size of each recipe (null: all there are). ``decontaminate`` says which training
    problems are dropped for being in ``decontaminate_against``: those that are near-duplicates of one of its problems,
    only those with the same text (``exact``), or none. ``match`` makes the recipes of ``compare.recipes`` alike: of the
    same ``problems`` (those that every generator solved), or of as many ``tokens`` (those of the smallest recipe). The
    TA's own data are never matched: other recipes depend on them. ``thinking`` says what is learnt of a generator that
    thinks before it answers: all it wrote with its tags, the same without them, the thought alone (``cot``), or the
    answer alone.
    """

    filters: list[str] = where(
        Words(lambda: "a list of filters out of " + ", ".join(FILTERS)),
        lambda value: all(name in FILTERS for name in value),
    )
    max_tokens: int = positive(16000)
    loop_words: int = positive(10)
    loop_share: float = fraction(0.5)
    keep_sample: str = choice("shortest", "median", "all", default="all")
    num_examples: int | None = positive(None)
    decontaminate: str = choice("near_duplicate", "exact", "none", default="near_duplicate")
    match: str = choice("problems", "tokens", "none", default="none")
    thinking: str = choice("tagged", "untagged", "cot", "answer", default="tagged")


def _check_filter(entry: Filter) -> None:
    unknown = set(entry.settings) - {item.name for item in fields(SelectConfig)}
    if unknown:
        raise TypeError(f"filter {entry.name!r} reads select.{min(unknown)}, which is no setting")
    if not entry.reasons:
        raise TypeError(f"filter {entry.name!r} names no reason by which what it drops is counted")


FILTERS.for_each(_check_filter)


@dataclass(kw_only=True)
class PartConfig:
    """One generator's share of the training data, or rows of the user's own (``path``)."""

    name: str = slug()
    generator: str = choice(*RECIPE_GENERATORS, default="none")
    path: str | None = None
    fingerprint: str | None = None


@dataclass(kw_only=True)
class DataConfig(PartConfig):
    """One recipe. Either a generator, or ``parts``, or ``path``; ``instruct`` has none of them.

    Parts are mixed by ``weights``, or are candidates: with ``select_by=student_bpc`` each problem gets the completion
    of all parts' that has the fewest bits per byte under the student before SFT.
    """

    parts: dict[str, PartConfig] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    select_by: str | None = where("student_bpc or null", lambda value: value in (None, "student_bpc"), None)

    @property
    def is_untuned(self) -> bool:
        return self.generator == "none" and not self.parts and self.path is None

    def conflicts(self) -> Iterator[str]:
        if self.select_by is not None:
            if not self.parts or self.weights:
                yield (
                    f"select_by={self.select_by} with parts {sorted(self.parts)} and weights {dict(self.weights)}; "
                    "accepted: at least one part and no weights"
                )
        elif set(self.weights) != set(self.parts):
            yield f"weights name {sorted(self.weights)} but parts are {sorted(self.parts)}; name the same parts in both"
        elif self.parts and (min(self.weights.values()) <= 0 or abs(sum(self.weights.values()) - 1) > 1e-6):
            yield f"weights={dict(self.weights)}; accepted: numbers above 0 that sum to 1"
        if self.parts and (self.generator != "none" or self.path):
            yield "a recipe of parts has neither generator nor path"


@dataclass(kw_only=True)
class MergeConfig:
    """A merge of the TA before and after SFT. Names as in mergekit.

    Without ``base`` the task vector is SFT's: the TA before it is the base. With a pre-trained ``base`` both are merged
    into it, the TA before SFT with ``instruct_density`` and ``instruct_weight``.
    With ``target_length_ratio`` weight and density are found by calibration (``sweep``) and those here do not count.
    """

    method: str = one_of(MERGE_METHODS)
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
        method = MERGE_METHODS[self.method]
        if self.base.path is not None and not method.has_base:
            yield f"method={self.method} with a base of its own: it goes from one model to another; use base=null"
        if self.rescale not in method.rescalings:
            why = "keeps the largest, not at random" if method.pruning else "drops nothing"
            yield f"rescale={self.rescale} with method={self.method}: it {why}; use {' or '.join(method.rescalings)}"
        if method.probability == "by_element":
            low, high = min(numbers(self.density)) - self.epsilon, max(numbers(self.density)) + self.epsilon
            if self.epsilon > 0 and (low <= 0 or high >= 1):
                yield f"density={self.density} with epsilon={self.epsilon}; accepted: both sums between 0 and 1"


def _check_settings(method: MergeMethod) -> None:
    known = [item.name for item in fields(MergeConfig)]
    for name in method.settings:
        if name not in known:
            raise TypeError(f"merge method {method.name!r} has setting {name!r}; there are {', '.join(known)}")


MERGE_METHODS.for_each(_check_settings)


@dataclass(kw_only=True)
class MergeSweepConfig:
    """Merges measured in memory, on the first ``num_problems`` of ``problems`` (null: those of training), at every pair
    of density and weight, with the masks of ``num_seeds`` seeds from ``seed`` on (one, where a method draws nothing).

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


MEASURES = ("teacher", "merges", "merge_sweep", "scores", "bpc", "rank_shift")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One place on an axis, or one recipe: what it is called, and the overrides that lead to it."""

    label: str
    overrides: list[str]


def _is_point(item: Any) -> bool:
    label, overrides = next(iter(item.items())) if isinstance(item, dict) and len(item) == 1 else (item, [])
    is_label = all(c.isalnum() or c in "._-" for c in str(label))
    return is_label and isinstance(overrides, list) and all("=" in str(override) for override in overrides)


POINTS = "a list of different options or values, or of {label: [overrides]}"


def _are_points(items: Any) -> bool:
    labels = [str(next(iter(item)) if isinstance(item, dict) and item else item) for item in items]
    return bool(items) and all(_is_point(item) for item in items) and len(set(labels)) == len(labels)


@dataclass(kw_only=True)
class CompareConfig:
    """What an experiment compares and measures: at each point of the product of ``axes``, the ``recipes`` of a student.

    An axis is named by what it varies, and lists its options or values (``student: [qwen1.5b, qwen3b]``); recipes are
    options of ``data``. Where one word is not enough, a point has a label and overrides instead
    (``{QwQ: [teacher=qwq32b, student.sft.epochs=2]}``). ``measures`` are the scores of the teacher, of the TA merged at
    ``merge_weights`` and of each recipe's student, merges over the grid of ``sweep`` (``merge_sweep``), the BPC of each
    recipe's data under the student before SFT, and the ranks that its answers' tokens had there (``rank_shift``).
    """

    axes: dict[str, list[Any]] = where(
        f"a map from what varies (other than data, which recipes vary) to {POINTS}",
        lambda axes: "data" not in axes and all(map(_are_points, axes.values())),
        default_factory=dict,
    )
    recipes: list[Any] = where(f"{POINTS}, of the group data", _are_points)
    measures: list[str] = where(
        "a list of at least one of " + ", ".join(MEASURES), lambda value: bool(value) and set(value) <= set(MEASURES)
    )
    merge_weights: list[float] = where(
        "a list of numbers above 0 and at most 1", lambda value: all(0 < weight <= 1 for weight in value)
    )

    def points(self, axis: str) -> list[Point]:
        """The places on an axis, or the recipes (``axis="data"``)."""
        found = []
        for item in self.recipes if axis == "data" else self.axes[axis]:
            label, overrides = next(iter(item.items())) if isinstance(item, dict) else (item, [f"{axis}={item}"])
            if axis == "data" and "data" not in {override.split("=")[0] for override in overrides}:
                overrides = [f"data={label}", *overrides]
            found.append(Point(label=str(label), overrides=list(overrides)))
        return found
