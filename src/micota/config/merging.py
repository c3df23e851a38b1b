"""Schemas of merges and of merges measured in memory."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any

from micota.config.fields import (
    SMALLEST,
    by_tensor,
    choice,
    fits_all,
    fraction,
    numbers,
    one_of,
    part,
    plain,
    positive,
    shares,
    where,
)
from micota.config.merge_methods import MERGE_METHODS, MergeMethod
from micota.config.mergekit import MERGEKIT, NAMES, faults, models_in
from micota.config.models import OtherModelConfig
from micota.config.problems import OtherProblemsConfig
from micota.config.sampling import SamplingConfig

TARGETS = ("student_bpc", "student_gain", "accuracy")


@dataclass(kw_only=True)
class MergeConfig:
    """A merge of the TA before and after SFT, or of models that exist. Names as in mergekit.

    Without ``base`` the task vector is that of SFT, and the TA before SFT is the base. With a pre-trained ``base`` both
    are merged into it. With ``tuned`` no TA is trained: ``tuned`` is merged into ``base``, by default the TA before
    SFT, and with ``instruct`` both are merged into ``base``.
    """

    method: str = one_of(
        ChainMap({MERGEKIT: None}, MERGE_METHODS),  # type: ignore[arg-type]  # it is only read
        about="How models are merged; mergekit: as merge.config describes.",
        results=True,
    )
    density: Any = by_tensor(
        SMALLEST,
        1.0,
        about="The share of the task vector that is kept. It does not count with target_length_ratio, nor with a "
        "method that drops nothing.",
        results=True,
    )
    weight: Any = by_tensor(
        -math.inf,
        0.5,
        highest=math.inf,
        about="The factor of the task vector: 0 is the TA before SFT, 1 after it, more goes beyond it and less than 0 "
        "the other way. It does not count with target_length_ratio.",
        results=True,
    )
    base: OtherModelConfig = part(
        OtherModelConfig,
        about="The model that the others are merged into; path null: the TA before SFT.",
        unused=("sampling", "thinking", "sft"),
    )
    tuned: OtherModelConfig = part(
        OtherModelConfig,
        about="A model that exists, in place of the TA after SFT, so that no teacher and no training is needed; path "
        "null: the TA after SFT.",
        unused=("sampling", "sft"),
    )
    instruct: OtherModelConfig = part(
        OtherModelConfig,
        about="A second model that is merged into base, beside tuned; path null: the TA before SFT where base is "
        "another model and tuned is null, else none.",
        unused=("sampling", "thinking", "sft"),
    )
    instruct_density: Any = by_tensor(
        SMALLEST, 0.5, about="The density of instruct, where two models are merged into base.", results=True
    )
    instruct_weight: Any = by_tensor(
        -math.inf,
        0.5,
        highest=math.inf,
        about="The weight of instruct, where two models are merged into base.",
        results=True,
    )
    rescale: str = choice(
        "dare",
        "norm",
        "none",
        default="none",
        about="How the rest makes up for the pruned part: dare divides by the share kept, norm restores the L1 norm of "
        "each tensor, as mergekit does.",
        results=True,
    )
    normalize: bool = plain(False, about="true: the weights that agree in sign are divided by their sum.", results=True)
    scale: float = where(
        "a number",
        math.isfinite,
        1.0,
        about="The factor of the sum of weighted task vectors (lambda of TIES, arXiv 2306.01708, and of mergekit).",
        results=True,
        added=True,
    )
    epsilon: float = where(
        "a number from 0 to below 0.5",
        lambda value: 0 <= value < 0.5,
        0.0,
        about="Half the range of densities within a row, for the method della.",
        results=True,
    )
    gamma: float = where(
        "a number from 0 to below 1",
        lambda value: 0 <= value < 1,
        0.0,
        about="The share of largest changes that is dropped, for the method breadcrumbs.",
        results=True,
    )
    dtype: str = choice(
        "auto",
        "float32",
        "bfloat16",
        "float16",
        default="auto",
        about="The type of the merged weights; auto: that of the fine-tuned model.",
        results=True,
    )
    device: str = choice(
        "cpu",
        "cuda",
        default="cpu",
        about="The device that merges, slice by slice. merge=mergekit merges on the CPU, and a sweep where its engine "
        "runs.",
        results=False,
    )
    target_length_ratio: float | None = where(
        "a number above 0 and below 1, or null",
        lambda value: value is None or 0 < value < 1,
        None,
        about="The wanted mean length of an answer, as a share of that after SFT: calibration then chooses weight and "
        "density, starting from the points of merge_sweep.",
        results=True,
    )
    target: str | None = where(
        "one of " + ", ".join(TARGETS) + ", or null",
        lambda value: value is None or value in TARGETS,
        None,
        about="What calibration chooses weight and density for, in place of a length. student_bpc: the fewest bits per "
        "byte of its right answers under the student; student_gain: the accuracy of the student after a short "
        "fine-tuning on them; accuracy: its own.",
        results=True,
        options=TARGETS,
    )
    search: str = choice(
        "grid",
        "cma_es",
        "activations",
        default="grid",
        about="What sweeps and calibration vary. grid: one weight for all layers; activations: the same mean weight, "
        "less in layers whose activations SFT changed little (arXiv 2505.14009); cma_es: the weight of each block of "
        "layers, by evolution (arXiv 1604.00772).",
        results=True,
    )

    config: dict[str, Any] = plain(
        default_factory=dict,
        about="With merge=mergekit, a configuration of mergekit. Its models are before, after and pretrained (the TA "
        "before and after SFT, and merge.base), folders and hub ids; by default before and after. The other keys of "
        "merge, except the models, do not count then.",
        results=True,
    )
    others: dict[str, OtherModelConfig] = part(
        default_factory=dict,
        about="The folders and hub ids that merge.config names.",
        internal=True,
        unused=("sampling", "thinking", "sft"),
    )

    def conflicts(self) -> Iterator[str]:
        if self.instruct.path is not None and self.base.path is None:
            yield (
                f"instruct.path={self.instruct.path!r} without base.path: instruct and the tuned model are merged into "
                "base; accepted: both paths, or base.path for the model in place of the TA before SFT"
            )
        yield from self._mergekit_conflicts() if self.method == MERGEKIT else self._native_conflicts()

    def __post_init__(self) -> None:
        if self.method != MERGEKIT:
            return
        with suppress(ValueError):  # conflicts() names what is wrong
            for path, revision in models_in(self.config, self.has_instruct):
                label = f"{path}@{revision}" if revision else path
                if path not in NAMES and label not in self.others:
                    self.others[label] = OtherModelConfig(path=path, revision=revision)

    @property
    def is_calibrated(self) -> bool:
        """Whether calibration chooses weight and density."""
        return self.wanted != ""

    def fixed_at(self, weight: float) -> MergeConfig:
        """The same merge at a known weight, which nothing calibrates."""
        return replace(self, weight=weight, target_length_ratio=None, target=None, search="grid")

    @property
    def wanted(self) -> str:
        """What calibration is to reach, as a key with its value; empty where nothing is calibrated."""
        if self.target is not None:
            return f"target={self.target}"
        return "" if self.target_length_ratio is None else f"target_length_ratio={self.target_length_ratio:g}"

    def _mergekit_conflicts(self) -> Iterator[str]:
        yield from faults(self.config, self.has_instruct)
        for setting in filter(None, (self.wanted, "" if self.search == "grid" else f"search={self.search}")):
            yield (
                f"{setting} with method=mergekit: calibration merges in memory, and mergekit does not; accepted: one "
                f"of {', '.join(MERGE_METHODS)}"
            )

    def _calibration_conflicts(self, method: MergeMethod) -> Iterator[str]:
        if self.target is not None and self.target_length_ratio is not None:
            yield (
                f"target={self.target} with target_length_ratio={self.target_length_ratio:g}: one merge has one "
                "target; accepted: one of them, the other null"
            )
        for setting in filter(None, (self.wanted, "" if self.search == "grid" else f"search={self.search}")):
            if not method.has_weights:
                yield (
                    f"{setting} with method={self.method}, which has no weight for calibration to choose; "
                    f"accepted: {', '.join(name for name in MERGE_METHODS if MERGE_METHODS[name].has_weights)}"
                )
        if self.search == "cma_es" and self.target is None:
            yield f"search=cma_es with target=null: evolution needs a number; accepted: target={' or '.join(TARGETS)}"

    def _native_conflicts(self) -> Iterator[str]:
        method = MERGE_METHODS[self.method]
        if self.config:
            yield (
                f"config={dict(self.config)} with method={self.method}, which does not read it; accepted: "
                "merge=mergekit"
            )
        if self.has_instruct and not method.has_base:
            yield (
                f"method={self.method} with a pre-trained base: it goes from one model to another; accepted: "
                "base.path=null, or tuned.path with base.path, the two models"
            )
        for key in ("density", "weight", "instruct_density", "instruct_weight"):
            setting = getattr(self, key)
            if isinstance(setting, list) and isinstance(setting[0], dict) and not any(map(fits_all, setting)):
                yield f"{key}={setting}: no value is left for other tensors; accepted: {{value: NUMBER}} at the end"
        yield from self._calibration_conflicts(method)
        if self.rescale not in method.rescalings:
            why = "keeps the largest, not at random" if method.pruning else "drops nothing"
            accepted = " or ".join(method.rescalings)
            yield f"rescale={self.rescale} with method={self.method}: it {why}; accepted: {accepted}"
        if method.probability == "by_element":
            low, high = min(numbers(self.density)) - self.epsilon, max(numbers(self.density)) + self.epsilon
            if self.epsilon > 0 and (low <= 0 or high >= 1):
                yield f"density={self.density} with epsilon={self.epsilon}; accepted: both sums between 0 and 1"

    @property
    def has_instruct(self) -> bool:
        """Whether two models are merged into the base."""
        return self.instruct.path is not None or (self.base.path is not None and self.tuned.path is None)


def _check_settings(method: MergeMethod) -> None:
    known = [item.name for item in fields(MergeConfig)]
    for name in method.settings:
        if name not in known:
            raise TypeError(f"merge method {method.name!r} has setting {name!r}; there are {', '.join(known)}")


MERGE_METHODS.for_each(_check_settings)


@dataclass(kw_only=True)
class MergeSweepConfig:
    """Merges measured in memory at every pair of density and weight.

    Calibration starts from the same points and goes on between those on both sides of the wanted length.
    """

    problems: OtherProblemsConfig = part(
        OtherProblemsConfig,
        about="The problems to answer, up to num_problems; path null: training problems.",
        unused=("limit",),
    )
    num_problems: int = positive(100, about="Only this many of the first problems.", unit="problems", results=True)
    sampling: SamplingConfig = part(SamplingConfig, about="How answers are sampled.")
    densities: list[float] = shares(about="The densities of the grid, in any order.", results=True)
    weights: list[float] = shares(about="The weights of the grid, in any order.", results=True)
    num_seeds: int = positive(
        1,
        about="The number of seeds whose masks each pair is measured with, from seed on; a method without random masks "
        "is measured once.",
        results=True,
    )
    tolerance: float = where(
        "a number above 0 and below 1",
        lambda value: 0 < value < 1,
        0.05,
        about="Calibration stops within this share of the wanted length.",
        results=True,
    )
    num_steps: int = positive(
        4, about="The most weights that calibration tries between the grid's, for each density.", results=True
    )
    accuracy_loss: float = fraction(
        0.05,
        about="With merge.target=student_bpc, a merge may be less accurate by this than the TA before or after SFT, "
        "whichever is more accurate.",
        results=True,
    )
    student_steps: int = positive(
        20, about="With merge.target=student_gain, how long the student is fine-tuned.", unit="steps", results=True
    )
    num_held_out: int = positive(
        100,
        about="With merge.target=student_gain, the problems after num_problems that the student then answers.",
        unit="problems",
        results=True,
    )
    num_blocks: int = positive(
        8, about="With merge.search=cma_es, the most blocks of neighbouring layers with a weight each.", results=True
    )
    num_points: int = positive(
        40, about="With merge.search=cma_es, the number of merges that it measures.", results=True
    )
