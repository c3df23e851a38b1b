"""The schema of stopping rules: when a recipe of an experiment needs no more seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from micota.config.fields import choice, where

OBRIEN_FLEMING, POCOCK = "obrien_fleming", "pocock"
SPENDING = (OBRIEN_FLEMING, POCOCK)


@dataclass(kw_only=True)
class StopConfig:
    """Group-sequential stopping: after each seed every recipe is tested against the baseline, and one that is decided
    runs no further seeds. All tests of all recipes together keep the error rate of 5 %."""

    seeds: list[int] = where(
        "a list of at least two different seeds of at least 0, or empty",
        lambda value: not value or (len(value) == len(set(value)) > 1 and min(value) >= 0),
        default_factory=list,
        about="All seeds that are planned, in the order in which they run, as [0, 1, 2, 3, 4]; empty: no recipe ends "
        "early.",
        results=False,
    )
    spending: str = choice(
        *SPENDING,
        default=OBRIEN_FLEMING,
        about="How the error rate is spent: obrien_fleming spends little on early looks and loses nearly no power, "
        "pocock decides earlier.",
        results=False,
    )
    futility: float = where(
        "a share of at least 0 and below 1",
        lambda value: 0 <= value < 1,
        0.0,
        about="A recipe also ends if the chance to decide at the last seed falls below this; 0: never.",
        results=False,
    )

    def conflicts(self) -> Iterator[str]:
        if self.futility and not self.seeds:
            yield f"futility={self.futility} without seeds; accepted: stop.seeds=[0,1,2]"
