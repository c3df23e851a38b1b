"""The papers' gaps: a student's accuracy with one recipe minus that with another, paired by problem.

MiCoTA (arXiv 2507.01887): P_distilled - P_base. Mix Distillation (arXiv 2502.12143, section 3): P_long - P_short and
P_large - P_small; a gap below 0 means that the student learns less from the stronger teacher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from micota.analysis.statistics import Difference, Suite, align, paired_difference, simultaneous

BASE = "instruct"
LONG_SHORT, LARGE_SMALL = ("strong", "short"), ("large", "small")


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Accuracy with ``recipe`` minus accuracy with ``baseline`` (a recipe too) for one student, with a paired interval.

    P-value and interval are corrected for the number of students.
    """

    student: str
    recipe: str
    baseline: str
    difference: Difference


def distilled(recipe: str) -> tuple[str, str]:
    """Return the recipes of P_distilled - P_base for a student tuned on ``recipe``."""
    return recipe, BASE


def gaps(suites: Mapping[str, Mapping[str, Suite]], recipes: tuple[str, str]) -> list[Gap]:
    """Return the gap between two recipes for every student that has both; ``suites`` are accuracies by student and
    recipe.

    Raises:
        PairingError: the two recipes of a student were not measured on the same problems.
    """
    first, second = recipes
    # Both sides answer the same problems, so that the difficulty of a problem cancels in its difference.
    differences = {
        student: paired_difference(by_recipe[first], by_recipe[second])
        for student, by_recipe in suites.items()
        if first in by_recipe and second in by_recipe
    }
    # There is one test per student. With 10 students and no gap, the chance of at least one false alarm without
    # correction is 1 - 0.95^10 = 40 %.
    return [
        Gap(student=student, recipe=first, baseline=second, difference=difference)
        for student, difference in simultaneous(differences).items()
    ]


@dataclass(frozen=True, kw_only=True)
class GapDifference:
    """The gap between two recipes of the student ``first``, minus that of the student ``second``.

    The interval and the p-value hold jointly over all pairs that were tested.
    """

    first: str
    second: str
    recipe: str
    baseline: str
    difference: Difference


def gap_differences(
    suites: Mapping[str, Mapping[str, Suite]], recipes: tuple[str, str], pairs: Sequence[tuple[str, str]]
) -> list[GapDifference]:
    """Return for each pair of students whether their gaps differ: a difference of paired differences, by problem.

    That one gap is significant and another is not does not mean that they differ (Gelman and Stern 2006, Am. Stat.
    60:328); this tests it.

    Raises:
        PairingError: the models of a pair were not measured on the same problems.
    """
    known = [pair for pair in pairs if all(set(recipes) <= set(suites[student]) for student in pair)]
    halves = {
        " minus ".join(pair): paired_difference(
            _half_gap(suites[pair[0]], recipes), _half_gap(suites[pair[1]], recipes)
        )
        for pair in known
    }
    return [
        GapDifference(first=pair[0], second=pair[1], recipe=recipes[0], baseline=recipes[1], difference=_doubled(half))
        for pair, half in zip(known, simultaneous(halves).values(), strict=True)
    ]


def _half_gap(by_recipe: Mapping[str, Suite], recipes: tuple[str, str]) -> dict[str, dict[str, float]]:
    """Half the gap at each problem: the difference of two halves is from -1 to 1, as intervals need it."""
    first, second = (by_recipe[recipe] for recipe in recipes)
    align(first, second)
    return {
        bench: {name: (value - second[bench][name]) / 2 for name, value in values.items()}
        for bench, values in first.items()
    }


def _doubled(half: Difference) -> Difference:
    error = 2 * half.standard_error
    return replace(half, value=2 * half.value, low=2 * half.low, high=2 * half.high, standard_error=error)
