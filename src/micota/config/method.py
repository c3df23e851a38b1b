"""Schemas of the method: recipes of data, merges, and what is compared."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from micota.config.fields import (
    Words,
    choice,
    fraction,
    instead_of,
    part,
    plain,
    positive,
    slug,
    where,
)
from micota.config.filters import FILTERS, Filter
from micota.config.models import ModelConfig, OtherModelConfig, ReleasedConfig, is_model_path
from micota.config.rankings import RANKINGS
from micota.config.rows import RowsConfig
from micota.config.stopping import StopConfig

GENERATORS = ("teacher", "ta", "ta_sft", "ta_merged", "long_generator", "short_generator", "large", "small")
ROLES = ("student", *GENERATORS)


@dataclass(kw_only=True)
class SelectConfig:
    """How completions become training data: of every recipe, so that recipes differ in their generator only, unless
    a recipe has its own settings. The data of the TA are never matched, since other recipes depend on them."""

    filters: list[str] = where(
        Words(lambda: "a list of filters out of " + ", ".join(FILTERS) + ", each once"),
        lambda value: all(name in FILTERS for name in value) and len(set(value)) == len(value),
        about="The filters that a completion must pass, in this order. The first that it fails is the reason that is "
        "counted, and duplicates compares with the completions that passed before.",
        results=True,
    )
    max_tokens: int = positive(
        16000, about="The filter length drops completions of more tokens.", unit="tokens", results=True
    )
    loop_words: int = positive(
        10, about="The filter loops looks for sequences of this many words.", unit="words", results=True
    )
    loop_share: float = fraction(
        0.5,
        about="The filter loops drops a text where more than this share of the sequences occurred earlier in it.",
        results=True,
    )
    loop_characters: int = positive(
        40,
        about="The filter loops looks for sequences of this many characters too, white space left out, as in texts "
        "without spaces.",
        unit="characters",
        results=True,
        added=True,
    )
    loop_compression: float | None = positive(
        8.0,
        about="The filter loops drops a text that zlib makes smaller than one in this many bytes, as a loop with a "
        "counter; null: no limit.",
        results=True,
        added=True,
    )
    language: str = where(
        "the code of a language (ISO 639), as en",
        lambda value: 2 <= len(value) <= 3 and value.isalpha() and value.islower(),
        "en",
        about="The language of the filter language, by its code (ISO 639).",
        results=True,
        added=True,
    )
    language_share: float = fraction(
        0.9,
        about="The filter language drops a text with fewer of its letters in that language; formulas and code do not "
        "count.",
        results=True,
        added=True,
    )
    keep_sample: str = choice(
        "shortest",
        "median",
        "all",
        "nearest",
        default="all",
        about="The samples of a problem that are kept, of those that pass: the shortest, the median in length, that "
        "nearest to keep_length, or all.",
        results=True,
    )
    keep_length: int | None = positive(
        None,
        about="The length that keep_sample=nearest wants, as for data of one length from any generator.",
        unit="tokens",
        results=True,
        added=True,
    )
    num_examples: int | None = positive(
        None, about="The size of each recipe; null: all that pass.", unit="examples", results=True
    )
    decontaminate: str = choice(
        "near_duplicate",
        "exact",
        "none",
        default="near_duplicate",
        about="The training problems that are dropped: near-duplicates of a problem of decontaminate_against, those of "
        "exactly its text, or none.",
        results=True,
    )
    match: str = choice(
        "problems",
        "tokens",
        "none",
        default="none",
        about="What is made equal in all of compare.recipes: the problems (those that every generator solved), or the "
        "number of tokens (that of the smallest recipe).",
        results=True,
    )
    thinking: str = choice(
        "tagged",
        "untagged",
        "cot",
        "answer",
        default="tagged",
        about="The part that is trained on, for a generator that thinks between tags: all with the tags, all without "
        "them, the thought alone (cot), or the answer alone.",
        results=True,
    )

    def settled(self) -> SelectConfig:
        """Return the settings with defaults for those of filters that are not used: they change no result."""
        used = {name for entry in self.filters for name in FILTERS[entry].settings}
        owned = {name for entry in FILTERS.values() for name in entry.settings}
        unused: dict[str, Any] = {item.name: item.default for item in fields(self) if item.name in owned - used}
        if self.keep_sample != "nearest":
            unused["keep_length"] = None
        return replace(self, **unused)

    def conflicts(self) -> Iterator[str]:
        if self.keep_sample == "nearest" and self.keep_length is None:
            yield "keep_sample=nearest and keep_length=null; accepted: a number of tokens, as keep_length=2000"
        for name in self.filters:
            if name in FILTERS:  # its check names others
                yield from FILTERS[name].conflicts(self)


def _check_filter(entry: Filter) -> None:
    unknown = set(entry.settings) - {item.name for item in fields(SelectConfig)}
    if unknown:
        raise TypeError(f"filter {entry.name!r} reads select.{min(unknown)}, which is no setting")
    if not entry.reasons:
        raise TypeError(f"filter {entry.name!r} names no reason under which its drops are counted")


FILTERS.for_each(_check_filter)


@dataclass(kw_only=True)
class RecipeSelectConfig:
    """The settings of ``select`` that differ in one recipe; null is as in ``select``."""

    filters: list[str] | None = instead_of(SelectConfig, "filters")
    max_tokens: int | None = instead_of(SelectConfig, "max_tokens")
    loop_words: int | None = instead_of(SelectConfig, "loop_words")
    loop_share: float | None = instead_of(SelectConfig, "loop_share")
    loop_characters: int | None = instead_of(SelectConfig, "loop_characters")
    loop_compression: float | None = instead_of(SelectConfig, "loop_compression")
    language: str | None = instead_of(SelectConfig, "language")
    language_share: float | None = instead_of(SelectConfig, "language_share")
    keep_sample: str | None = instead_of(SelectConfig, "keep_sample")
    keep_length: int | None = instead_of(SelectConfig, "keep_length")
    num_examples: int | None = instead_of(SelectConfig, "num_examples")
    decontaminate: str | None = instead_of(SelectConfig, "decontaminate")
    thinking: str | None = instead_of(SelectConfig, "thinking")

    def given(self) -> dict[str, Any]:
        """The settings that are not null."""
        return {item.name: value for item in fields(self) if (value := getattr(self, item.name)) is not None}


@dataclass(kw_only=True)
class PartConfig(RowsConfig):
    """One generator's share of the training data, or rows at a path."""

    name: str = slug(
        about="Its name in folders, tables and figures. If the path is overridden, the last part of the path.",
        results=True,
        of_path=True,
    )
    generator: str = where(
        f"one of {', '.join((*GENERATORS, 'model', 'none'))}, or the path of a model: a folder with a slash in its "
        "name, a hub id or bundled:NAME",
        lambda value: value in (*GENERATORS, "model", "none") or is_model_path(value),
        default="none",
        about="The model that generates the data, by its role (ta_sft is the TA after SFT, ta_merged the merged TA) or "
        "by its path, which sets model.path.",
        results=True,
        of_path=True,
    )
    model: OtherModelConfig = part(
        OtherModelConfig,
        about="The model of generator=model: any option of the group model, or a folder or hub id.",
        unused=("sft",),
        of_path=True,
    )
    merge_weight: float | None = where(
        "null, or a number",
        lambda value: value is None or math.isfinite(value),
        None,
        about="The weight at which the TA is merged that generates the data, with generator=ta_merged; null: that of "
        "merge.",
        results=True,
    )
    select: RecipeSelectConfig = part(
        RecipeSelectConfig,
        about="The settings of select that differ in this recipe, as data.select.filters=[finished].",
    )

    def conflicts(self) -> Iterator[str]:
        if self.merge_weight is not None and self.generator != "ta_merged":
            yield f"merge_weight={self.merge_weight:g} with generator={self.generator}; accepted: generator=ta_merged"


@dataclass(kw_only=True)
class DataConfig(PartConfig):
    """One recipe. Either a generator, or ``parts``, or ``path``, or ``released``; ``instruct`` has none of them."""

    parts: dict[str, PartConfig] = part(
        default_factory=dict, about="Generators whose data are mixed, or chosen from, each under a label."
    )
    weights: dict[str, float] = plain(
        default_factory=dict, about="The share of each part in the examples; they sum to 1.", results=True
    )
    select_by: str | None = where(
        f"one of {', '.join(RANKINGS)}, or null",
        lambda value: value is None or value in RANKINGS,
        None,
        about="Instead of a mixture, for each problem the completion of all parts that is least under the student "
        "before SFT: in bits per byte (student_bpc), or in the ratio of token ranks to surprisal (student_rsr).",
        results=True,
    )
    released: dict[str, ReleasedConfig] = part(
        default_factory=dict,
        about="Published checkpoints that stand for the student tuned on this recipe, by the path of the student. "
        "There are no data, and nothing is trained.",
    )
    released_answers: str = choice(
        "long",
        "middle",
        "short",
        default="short",
        about="How long the answers of released checkpoints are, for a plan: as cost.long_tokens, cost.middle_tokens "
        "or cost.short_tokens.",
        results=False,
    )
    option: str | None = plain(
        None,
        about="The chosen option of the group data, for the commands that are printed.",
        results=False,
        internal=True,
    )

    @property
    def chosen(self) -> str:
        """The value of ``data=`` that chooses this recipe again. An overridden path gives a recipe another name."""
        return self.option or self.name

    def settled(self) -> DataConfig:
        """The recipe without models that generate nothing, so that equal recipes compare equal; how the rows of a path
        are transferred, and how long released answers are for a plan, make no other recipe."""

        def model_of(part: PartConfig) -> OtherModelConfig:
            return part.model if part.generator == "model" else OtherModelConfig()

        parts = {label: replace(part, model=model_of(part), streaming=False) for label, part in self.parts.items()}
        estimated: Any = next(item.default for item in fields(DataConfig) if item.name == "released_answers")
        return replace(self, parts=parts, model=model_of(self), streaming=False, released_answers=estimated)

    def each(self) -> Iterator[PartConfig]:
        """This recipe, and its parts."""
        yield from (self, *self.parts.values())

    def covers(self, student: ModelConfig) -> bool:
        """Whether the recipe has this student: released checkpoints are those of some students."""
        return not self.released or student.path in self.released

    @property
    def is_untuned(self) -> bool:
        return self.generator == "none" and not self.parts and self.path is None

    def conflicts(self) -> Iterator[str]:
        yield from super().conflicts()
        if self.select_by is not None:
            if not self.parts or self.weights:
                yield (
                    f"select_by={self.select_by} with parts {sorted(self.parts)} and weights {dict(self.weights)}; "
                    "accepted: at least one part and no weights"
                )
        elif set(self.weights) != set(self.parts):
            names = ", ".join(sorted(self.parts))
            yield f"weights={dict(self.weights)}; accepted: a number for each of the parts {names}"
        elif self.parts and (min(self.weights.values()) <= 0 or abs(sum(self.weights.values()) - 1) > 1e-6):
            yield f"weights={dict(self.weights)}; accepted: numbers above 0 that sum to 1"
        if self.parts and (self.generator != "none" or self.path):
            yield "a recipe of parts has neither generator nor path; accepted: generator=none and path=null with parts"
        if self.released and (self.parts or self.generator != "none" or self.path):
            yield (
                "a recipe of released checkpoints has neither generator, parts nor path; accepted: generator=none, "
                "parts={} and path=null with released"
            )


MEASURES = ("teacher", "merges", "merge_sweep", "scores", "bpc", "rank_shift")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of an axis, or one recipe: its label and the overrides that set it."""

    label: str
    overrides: list[str]


def _is_point(item: Any) -> bool:
    label, overrides = next(iter(item.items())) if isinstance(item, dict) and len(item) == 1 else (_label(item), [])
    is_label = all(c.isalnum() or c in "._-" for c in str(label))
    return is_label and isinstance(overrides, list) and all("=" in str(override) for override in overrides)


def _label(value: Any) -> Any:
    """A value of an axis as a label: 1e10, where Python writes 10000000000.0."""
    short = re.sub(r"e\+0*", "e", f"{value:g}") if isinstance(value, float) else value
    return short if isinstance(value, float) and float(short) == value else value


# Keys that hold for a whole run, so that no case has one of its own, with what to do instead.
OF_A_RUN = {
    "seed": "seed=0,1 on the command line with -m, after which the report has the seeds together",
    "artifacts": "one folder for all cases",
    "name": "one name for all cases",
    "experiment": "one experiment, or several with -m",
    "plan": "plan=true on the command line",
}
AXIS = re.compile(r"\w[\w.@/-]*")  # the name of an axis, which stands on pages and in files
POINTS = "a list of different options or values, or of {label: [overrides]}"


def _are_points(items: Any) -> bool:
    labels = [str(next(iter(item)) if isinstance(item, dict) and item else item) for item in items]
    return bool(items) and all(_is_point(item) for item in items) and len(set(labels)) == len(labels)


@dataclass(kw_only=True)
class CompareConfig:
    """The comparison of an experiment: at each point of the product of ``axes``, the ``recipes`` of a student.

    Where one word is not enough, a point of an axis or a recipe has a label and overrides
    (``{QwQ: [teacher=qwq32b, student.sft.epochs=2]}``). None of it enters the key of an artifact: it sets
    which artifacts there are.
    """

    axes: dict[str, list[Any]] = where(
        f"a map from what varies (other than data, which recipes vary; a group, a key or a word) to {POINTS}",
        lambda axes: (
            all(name != "data" and AXIS.fullmatch(str(name)) for name in axes) and all(map(_are_points, axes.values()))
        ),
        default_factory=dict,
        about="The groups or keys that vary beside the recipes, each with its options or values, as {student: "
        "[qwen1.5b, qwen3b]}.",
        results=False,
    )
    recipes: list[Any] = where(
        f"{POINTS}, of the group data",
        _are_points,
        about="The recipes that are compared. They enter keys only with select.match, which matches their data.",
        results=False,
    )
    measures: list[str] = where(
        "a list of at least one of " + ", ".join(MEASURES),
        lambda value: bool(value) and set(value) <= set(MEASURES),
        about="The scores of the teacher (teacher), of the TA merged at merge_weights (merges) and of each recipe's "
        "student (scores), merges over the grid (merge_sweep), the BPC of each recipe's data under the student before "
        "SFT (bpc), and the token ranks of its answers there (rank_shift).",
        results=False,
    )
    merge_weights: list[float] = where(
        "a list of numbers above 0 and at most 1",
        lambda value: all(0 < weight <= 1 for weight in value),
        about="The weights at which the merged TA is scored.",
        results=False,
    )
    baseline: str = plain(
        "instruct",
        about="The recipe that the report tests every other one against; instruct: the student before SFT.",
        results=False,
    )
    stop: StopConfig = part(StopConfig, about="When a recipe needs no more seeds.")

    def conflicts(self) -> Iterator[str]:
        labels = [point.label for point in self.points("data")]
        if self.baseline not in (*labels, "instruct"):
            yield f"baseline={self.baseline!r} is no recipe of this comparison; accepted: {', '.join(labels)}"
        if self.stop.seeds and ("scores" not in self.measures or self.baseline not in labels or len(labels) < 2):
            yield (
                f"stop.seeds={self.stop.seeds} needs scores among the measures, and the baseline ({self.baseline}) and "
                "at least one more among the recipes; accepted: these, or stop.seeds=[]"
            )
        for axis in ("data", *self.axes):
            for override in (override for point in self.points(axis) for override in point.overrides):
                if (key := override.partition("=")[0].lstrip("+~")) in OF_A_RUN:
                    where_set = "recipes" if axis == "data" else f"axes.{axis}"
                    yield f"{where_set} sets {override}, but {key} is one for all cases; accepted: {OF_A_RUN[key]}"

    def points(self, axis: str) -> list[Point]:
        """The points of an axis, or the recipes (``axis="data"``)."""
        points = []
        for item in self.recipes if axis == "data" else self.axes[axis]:
            plain = _label(item)
            label, overrides = next(iter(item.items())) if isinstance(item, dict) else (plain, [f"{axis}={plain}"])
            if axis == "data" and "data" not in {override.split("=")[0] for override in overrides}:
                overrides = [f"data={label}", *overrides]
            points.append(Point(label=str(label), overrides=list(overrides)))
        return points
