"""Published numbers against measured ones, one cell of a table at a time."""

from __future__ import annotations

from dataclasses import dataclass

from micota.analysis.intervals import Estimate

INSIDE, OUTSIDE, CANNOT_TELL = "inside", "outside", "cannot tell"
ROUNDING = 0.05  # points: published numbers have one decimal or two
MARGIN = 5.0  # points: the resolution wanted of a cell that has no other number beside it


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One published number and its measurement.

    Args:
        published: in percent.
        others: the numbers that the table has for other models of the same student and benchmark, in percent.
        estimate: the measured accuracy with its 95 % interval, as fractions.
        num_problems: of the benchmark; of an average, of all its benchmarks.
        graded_by: the graders of the measurement, in words.
        source: the table.
    """

    recipe: str
    benchmark: str
    published: float
    others: tuple[float, ...]
    estimate: Estimate
    num_problems: int
    graded_by: str
    source: str

    @property
    def verdict(self) -> str:
        """``outside``: the published number is outside of the interval. ``inside``: it is inside, and the interval
        tells it from another model's number. ``cannot tell``: it is inside, and so are the others, so that the interval
        would have contained it whichever model was measured; or there are no others, and it is wider than ``MARGIN`` on
        each side."""
        if not self._contains(self.published):
            return OUTSIDE
        different = self._different()
        if different:
            return CANNOT_TELL if all(self._contains(other) for other in different) else INSIDE
        return INSIDE if self._half_width <= MARGIN else CANNOT_TELL

    @property
    def num_needed(self) -> int:
        """About how many problems make the interval narrow enough to tell the number from the nearest other one.

        The half width falls with the root of the number of problems.
        """
        distance = min((abs(other - self.published) for other in self._different()), default=MARGIN)
        return round(self.num_problems * (self._half_width / distance) ** 2)

    @property
    def _half_width(self) -> float:
        return 50 * (self.estimate.high - self.estimate.low)

    def _different(self) -> list[float]:
        return [other for other in self.others if abs(other - self.published) > 2 * ROUNDING]

    def _contains(self, percent: float) -> bool:
        return 100 * self.estimate.low - ROUNDING <= percent <= 100 * self.estimate.high + ROUNDING
