"""The papers' gaps: what one kind of data is worth to a student against another, paired by problem.

MiCoTA (arXiv 2507.01887): P_distilled - P_base. Mix Distillation (arXiv 2502.12143, section 3): P_long - P_short and
P_large - P_small; a gap below 0 says that the student cannot learn from the stronger teacher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from micota.analysis.statistics import Difference, Suite, holm, paired_difference

BASE = "instruct"
LONG_SHORT, LARGE_SMALL = ("strong", "short"), ("large", "small")


@dataclass(frozen=True, kw_only=True)
class Gap:
    """``ours`` minus ``theirs`` (recipes) for one student, with a paired interval; the p-value is Holm's over
    students."""

    student: str
    ours: str
    theirs: str
    difference: Difference


def distilled(recipe: str) -> tuple[str, str]:
    """The recipes of P_distilled - P_base for a student tuned on ``recipe``."""
    return recipe, BASE


def gaps(suites: Mapping[str, Mapping[str, Suite]], recipes: tuple[str, str]) -> list[Gap]:
    """The gap between two recipes for every student that has both; ``suites`` are accuracies by student and recipe.

    Raises:
        PairingError: the two recipes of a student were not measured on the same problems.
    """
    ours, theirs = recipes
    # Both sides answer the same problems, so that the difficulty of a problem cancels in its difference.
    found = {
        student: paired_difference(by_recipe[ours], by_recipe[theirs])
        for student, by_recipe in suites.items()
        if ours in by_recipe and theirs in by_recipe
    }
    # One test for each student: of 10 students without a gap, one in 40 % of cases would show it without correction
    # (1 - 0.95^10).
    p_values = holm({student: difference.p_value for student, difference in found.items()})
    return [
        Gap(student=student, ours=ours, theirs=theirs, difference=replace(difference, p_value=p_values[student]))
        for student, difference in found.items()
    ]
