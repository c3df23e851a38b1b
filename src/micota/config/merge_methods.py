"""The one table of merge methods: the formula, pruning and settings of each, for all code that needs them.

Every method but ``linear`` and ``slerp`` adds pruned task vectors to a base. A new method is one entry, here or beside
its code, which also makes it an option of ``merge=``. A new way to prune is one entry of ``PRUNINGS`` and a
function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from micota.config.registry import Registry

Rescaling = Literal["dare", "norm", "none"]
TASK_VECTORS = "micota.merging.methods:task_vectors"
RESCALINGS: tuple[Rescaling, ...] = ("dare", "norm", "none")


@dataclass(frozen=True, kw_only=True)
class PruningKind:
    """A way to choose which elements of a task vector are kept.

    Args:
        name: the value of ``MergeMethod.pruning``.
        mask: ``module:function`` from a ``MergeSpec`` and a ``TaskVector`` to a ``Mask`` of micota.merging.pruning.
        probability: that an element is kept, for random masks: ``density`` for every element (an element is kept if its
            uniform number, of ``masks.uniforms``, is below it), or one ``by_element``. The rescaling ``dare`` divides
            by it.
        is_nested: whether a higher density keeps every element that a lower one keeps, so that a sweep shares masks.
    """

    name: str
    mask: str
    probability: Literal["density", "by_element"] | None = None
    is_nested: bool = False


@dataclass(frozen=True, kw_only=True)
class MergeMethod:
    """A merge method.

    Args:
        name: as in ``merge.method``; mergekit's, where it has the method too.
        summary: its formula or rule and its source, in one line.
        settings: values of ``merge`` that the option of this name sets. Those that neither they, nor the pruning, nor
            the sum of task vectors need enter no key.
        combine: ``module:function`` from a ``TensorMerge`` to its ``Combine`` of micota.merging.methods.
        pruning: the name of its ``PruningKind``; null where nothing is dropped.
        elects_signs: whether only values are added that agree in sign with the sum over the fine-tuned models.
        has_base: whether it can merge into a third model as its base.
        has_weights: whether it has weights of models.
        takes_several: whether one fine-tuned model is too few, so that it needs a third model as its base.
    """

    name: str
    summary: str
    settings: Mapping[str, float | str] = field(default_factory=dict)
    combine: str = TASK_VECTORS
    pruning: str | None = None
    elects_signs: bool = False
    has_base: bool = True
    has_weights: bool = True
    takes_several: bool = False

    def reads(self, name: str) -> bool:
        """Whether a field of ``merge`` changes its results: by its pruning, its formula, or as one of its settings."""
        known = {
            "density": self.pruning is not None,
            "instruct_density": self.pruning is not None,
            "epsilon": self.probability == "by_element",
            "gamma": self.pruning == "outliers",
            "normalize": self.combine == TASK_VECTORS,
            "scale": self.combine == TASK_VECTORS,
            "weight": self.has_weights,
            "instruct_weight": self.has_weights,
            "seed": self.samples,
        }
        return known.get(name, True) or name in self.settings

    @property
    def probability(self) -> Literal["density", "by_element"] | None:
        """As in its pruning."""
        return PRUNINGS[self.pruning].probability if self.pruning else None

    @property
    def samples(self) -> bool:
        """Whether it keeps elements at random, so that the result depends on the seed."""
        return self.probability is not None

    @property
    def is_nested(self) -> bool:
        """As in its pruning."""
        return self.pruning is not None and PRUNINGS[self.pruning].is_nested

    @property
    def rescalings(self) -> tuple[Rescaling, ...]:
        """What can be done with what is kept: nothing, restoring the L1 norm, or dividing by a probability."""
        return ("none",) if self.pruning is None else RESCALINGS if self.samples else ("norm", "none")


PRUNINGS: Registry[PruningKind] = Registry("pruning")
MERGE_METHODS: Registry[MergeMethod] = Registry("merge method")


def _check(method: MergeMethod) -> None:
    if method.pruning is not None and method.pruning not in PRUNINGS:
        raise TypeError(f"merge method {method.name!r} has pruning {method.pruning!r}; there are {', '.join(PRUNINGS)}")
    rescale = method.settings.get("rescale", "none")
    if rescale not in method.rescalings:
        known = ", ".join(method.rescalings)
        raise TypeError(f"merge method {method.name!r} has rescale {rescale!r}, and knows {known}")


MERGE_METHODS.for_each(_check)

_MASKS = "micota.merging.pruning"
PRUNINGS.add(PruningKind(name="random", mask=f"{_MASKS}:at_random", probability="density", is_nested=True))
PRUNINGS.add(PruningKind(name="ranks", mask=f"{_MASKS}:by_rank", probability="by_element"))
PRUNINGS.add(PruningKind(name="magnitude", mask=f"{_MASKS}:largest", is_nested=True))
PRUNINGS.add(PruningKind(name="outliers", mask=f"{_MASKS}:below_outliers", is_nested=True))

# The MiCoTA paper merges with DARE-TIES and does not publish its values.
MERGE_METHODS.add(
    MergeMethod(
        name="dare_ties",
        summary="elements kept at random, with the election of signs (DARE, arXiv 2311.03099; TIES, 2306.01708)",
        pruning="random",
        elects_signs=True,
        settings={"density": 0.5, "weight": 0.5, "rescale": "dare"},
    )
)
MERGE_METHODS.add(
    replace(
        MERGE_METHODS["dare_ties"],
        name="dare_linear",
        summary="elements kept at random (DARE, arXiv 2311.03099); with one fine-tuned model the same as dare_ties",
        elects_signs=False,
    )
)
# Not normalised: with one fine-tuned model that would undo the weight.
MERGE_METHODS.add(
    MergeMethod(
        name="ties",
        summary="the largest changes kept, with the election of signs (TIES, arXiv 2306.01708)",
        pruning="magnitude",
        elects_signs=True,
        settings={"density": 0.5, "weight": 0.5},
    )
)
MERGE_METHODS.add(
    MergeMethod(
        name="task_arithmetic",
        summary="base + weight * (fine-tuned - base), nothing dropped (arXiv 2212.04089)",
        settings={"weight": 0.5},
    )
)
MERGE_METHODS.add(
    MergeMethod(
        name="linear",
        summary="a weighted mean (arXiv 2203.05482): weight of the model after SFT, the rest of the base",
        combine="micota.merging.methods:linear",
        settings={"weight": 0.5},
    )
)
MERGE_METHODS.add(
    MergeMethod(
        name="slerp",
        summary="on the arc between base (weight 0) and fine-tuned model (weight 1), tensor by tensor (Shoemake 1985)",
        combine="micota.merging.methods:slerp",
        has_base=False,
        settings={"weight": 0.5},
    )
)
MERGE_METHODS.add(
    MergeMethod(
        name="della",
        summary="kept at random, from density - epsilon for the smallest change in a row to density + epsilon for the "
        "largest, with the election of signs (DELLA, arXiv 2406.11617)",
        pruning="ranks",
        elects_signs=True,
        settings={"density": 0.5, "weight": 0.5, "epsilon": 0.15, "rescale": "dare"},
    )
)
MERGE_METHODS.add(
    MergeMethod(
        name="breadcrumbs",
        summary="the share gamma of largest changes dropped, and the smallest down to density "
        "(Model Breadcrumbs, arXiv 2312.06795)",
        pruning="outliers",
        settings={"density": 0.5, "weight": 0.5, "gamma": 0.01},
    )
)
MERGE_METHODS.add(
    replace(
        MERGE_METHODS["breadcrumbs"],
        name="breadcrumbs_ties",
        summary="as breadcrumbs, with the election of signs (arXiv 2312.06795; TIES, 2306.01708)",
        elects_signs=True,
    )
)
MERGE_METHODS.add(
    replace(
        MERGE_METHODS["della"],
        name="della_linear",
        summary="as della, without the election of signs (arXiv 2406.11617)",
        elects_signs=False,
    )
)
MERGE_METHODS.add(
    MergeMethod(
        name="sce",
        summary="of two models merged into a third: the share density of elements that vary most between them, "
        "weighted by the mean square of each model's changes, with the election of signs (SCE, arXiv 2408.07990)",
        combine="micota.merging.methods:sce",
        has_weights=False,
        takes_several=True,
        settings={"density": 0.5},
    )
)
