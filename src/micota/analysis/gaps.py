"""The papers' gaps: a student's accuracy with one recipe minus that with another, paired by problem.

MiCoTA (arXiv 2507.01887): P_distilled - P_base. Mix Distillation (arXiv 2502.12143, section 3): P_long - P_short and
P_large - P_small; a gap below 0 means that the student learns less from the stronger teacher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from micota.analysis.statistics import Difference, Suite, paired_difference, simultaneous

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
