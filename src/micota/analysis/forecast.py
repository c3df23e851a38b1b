r"""Forecast of what a student gains from a recipe, before it is trained, from finished trainings of other students.

The model is a ridge regression of the gain on measures of the recipe's data under the student (``FEATURES``), on their
products if these predict better, and on the recipe: one column for each that is known. The penalty shrinks the effects
of recipes, and a new recipe gets none, so that its measures alone speak. The model is always judged, and its strength
chosen, on students that it has not seen: all outcomes of a student are left out together. Intervals are those of CV+
(Barber et al. 2021, Ann. Stat. 49:486), whose folds are the students, so they hold for new students, not only for new
recipes of known ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from micota.analysis.intervals import ALPHA
from micota.analysis.learnability import MIN_RECIPES, spearman

Values = NDArray[np.float64]
STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)  # of the ridge penalty, which is chosen among them
MIN_STUDENTS = 5  # with fewer, an interval of new students has no meaning
SMALL = 1e-6


def _log(value: float) -> float:
    return math.log(max(value, SMALL))


def _same(value: float) -> float:
    return value


# What is known before training, by name, with the form in which it enters. Sizes and ratios act by their factor.
FEATURES: dict[str, Callable[[float], float]] = {
    "bits_per_byte": _log,
    "p50": _log,
    "surprisal": _log,
    "mean_rank": _log,
    "rank_surprisal_ratio": _log,
    "share_beyond_1": _same,
    "share_beyond_10": _same,
    "num_tokens": _log,
    "accuracy_before": _same,
    "num_parameters": _log,
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One student trained on one recipe: what was known before (keys of ``FEATURES``), and its gain in average accuracy
    on the student before SFT (a fraction)."""

    student: str
    recipe: str
    seed: int
    known: Mapping[str, float]
    gain: float


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The expected gain of a recipe, with an interval that holds the gain of a new student in 95 % of cases."""

    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class _Ridge:
    """Coefficients of standardised features; ``degree`` 2 has products of measures too."""

    centre: Values
    scale: Values
    mean: float
    weights: Values
    degree: int

    @classmethod
    def fitted(cls, x: _Rows, y: Values, strength: float, degree: int) -> _Ridge:
        expanded = x.expanded(degree)
        centre, scale = expanded.mean(axis=0), expanded.std(axis=0)
        scale = np.where(scale > SMALL, scale, 1.0)  # what is equal for all says nothing
        z, mean = (expanded - centre) / scale, float(y.mean())
        # w = (Z'Z + s I)^-1 Z'(y - mean) (Hoerl and Kennard 1970, Technometrics 12:55).
        weights = np.linalg.solve(z.T @ z + strength * np.eye(z.shape[1]), z.T @ (y - mean))
        return cls(centre, scale, mean, weights, degree)

    def predict(self, x: _Rows) -> Values:
        z = (x.expanded(self.degree) - self.centre) / self.scale
        predicted: Values = np.nan_to_num(z) @ self.weights + self.mean  # a new recipe is as the mean of the known ones
        return predicted


@dataclass(frozen=True)
class _Rows:
    """``measures`` has a column for each feature, and ``recipes`` one for each known recipe: 1 for its own rows, and
    nan in rows of other recipes than the known ones."""

    measures: Values
    recipes: Values

    @classmethod
    def of(
        cls, rows: Sequence[tuple[str, Mapping[str, float]]], features: Sequence[str], recipes: Sequence[str]
    ) -> _Rows:
        """Of pairs of a recipe and what is known."""
        return cls(
            np.concatenate([_row(known, features) for _, known in rows]),
            np.array([[float(name == one) if name in recipes else math.nan for one in recipes] for name, _ in rows]),
        )

    def __getitem__(self, chosen: NDArray[np.bool_]) -> _Rows:
        return _Rows(self.measures[chosen], self.recipes[chosen])

    def expanded(self, degree: int) -> Values:
        x = self.measures
        pairs = combinations_with_replacement(range(x.shape[1]), 2) if degree == 2 else ()
        return np.concatenate([x, *(x[:, [one]] * x[:, [other]] for one, other in pairs), self.recipes], axis=1)


@dataclass(frozen=True)
class Forecaster:
    """A fitted forecast. ``unseen`` has for each outcome what was expected of it without its student."""

    features: tuple[str, ...]
    recipes: tuple[str, ...]
    students: tuple[str, ...]
    strength: float
    degree: int
    unseen: Values
    _without: Mapping[str, _Ridge]
    _of: tuple[str, ...]
    _errors: Values

    def expect(self, recipe: str, known: Mapping[str, float]) -> Expected:
        """The expected gain of a recipe under a student that is not among ``students``. It may be none of ``recipes``.

        Raises:
            ValueError: a feature is missing.
        """
        row = _Rows.of([(recipe, known)], self.features, self.recipes)
        by_student = {student: float(self._without[student].predict(row)[0]) for student in self.students}
        middles = np.array([by_student[student] for student in self._of])
        # CV+: quantiles of what each fold predicts, minus and plus the error that it made on its own outcomes.
        rank = math.ceil((1 - ALPHA) * (len(self._errors) + 1))
        low = -_order(-(middles - self._errors), rank)
        high = _order(middles + self._errors, rank)
        return Expected(gain=float(np.mean(list(by_student.values()))), low=low, high=high)


def _order(values: Values, rank: int) -> float:
    """Return the value of this rank from the smallest; infinity where there are fewer values."""
    return float(np.sort(values)[rank - 1]) if rank <= len(values) else math.inf


def _row(known: Mapping[str, float], features: Sequence[str]) -> Values:
    missing = [name for name in features if name not in known]
    if missing:
        raise ValueError(f"known lacks {', '.join(missing)}; accepted: all of {', '.join(features)}")
    return np.array([[FEATURES[name](known[name]) for name in features]])


def fit(outcomes: Sequence[Outcome], features: Sequence[str] = tuple(FEATURES)) -> Forecaster:
    """Fit a forecast on finished outcomes.

    Args:
        features: keys of ``FEATURES``; those that an outcome lacks are not used.

    Raises:
        ValueError: there are fewer than ``MIN_STUDENTS`` students, or no feature is known of all outcomes.
    """
    students = tuple(dict.fromkeys(outcome.student for outcome in outcomes))
    if len(students) < MIN_STUDENTS:
        raise ValueError(f"{len(students)} students with finished trainings; at least {MIN_STUDENTS} are needed")
    shared = tuple(name for name in features if all(name in outcome.known for outcome in outcomes))
    if not shared:
        raise ValueError(f"none of {', '.join(features)} is known of all outcomes")
    recipes = tuple(dict.fromkeys(outcome.recipe for outcome in outcomes))
    x = _Rows.of([(outcome.recipe, outcome.known) for outcome in outcomes], shared, recipes)
    y = np.array([outcome.gain for outcome in outcomes])
    of = np.array([outcome.student for outcome in outcomes])
    tried = [_left_out(x, y, of, strength, degree) for degree in (1, 2) for strength in STRENGTHS]
    without, unseen, strength, degree = min(tried, key=lambda one: float(np.mean((one[1] - y) ** 2)))
    errors = np.abs(unseen - y)
    return Forecaster(shared, recipes, students, strength, degree, unseen, without, tuple(of.tolist()), errors)


def _left_out(
    x: _Rows, y: Values, of: NDArray[np.str_], strength: float, degree: int
) -> tuple[dict[str, _Ridge], Values, float, int]:
    """Fit without each student, and predict its outcomes."""
    unseen, without = np.empty_like(y), {}
    for student in dict.fromkeys(of.tolist()):
        own = of == student
        without[student] = _Ridge.fitted(x[~own], y[~own], strength, degree)
        unseen[own] = without[student].predict(x[own])
    return without, unseen, strength, degree


@dataclass(frozen=True, kw_only=True)
class Skill:
    """How good a forecast is on students that it has not seen.

    ``spearman`` is the mean over students of the rank correlation of expected and true gains over recipes, with a 95 %
    bootstrap interval over students. ``coverage`` is the share of intervals that hold the gain. ``regret`` is by
    strategy how much less than the best recipe of each student the chosen one gains, on average over students: the
    recipe with the largest expected gain (``forecast``), or always the same.
    """

    num_students: int
    num_outcomes: int
    spearman: float
    low: float
    high: float
    coverage: float
    mean_error: float
    regret: Mapping[str, float]


def students_of(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The outcomes of each student, in their order."""
    by_student: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_student.setdefault(outcome.student, []).append(outcome)
    return by_student


def left_out(outcomes: Sequence[Outcome], features: Sequence[str] = tuple(FEATURES)) -> dict[str, list[Expected]]:
    """What is expected of each outcome, in the order of :func:`students_of`, by fits without its student.

    Raises:
        ValueError: as for :func:`fit`, of the students that remain.
    """
    expected = {}
    for student, own in students_of(outcomes).items():
        others = fit([outcome for outcome in outcomes if outcome.student != student], features)
        expected[student] = [others.expect(outcome.recipe, outcome.known) for outcome in own]
    return expected


def skill(outcomes: Sequence[Outcome], features: Sequence[str] = tuple(FEATURES), seed: int = 0) -> Skill:
    """Judge the forecast on each student without its outcomes.

    The strength of the penalty is chosen on the other students alone, so that nothing of a student is used.

    Raises:
        ValueError: as for :func:`fit`, of the students that remain.
    """
    return judge(outcomes, left_out(outcomes, features), seed)


def judge(outcomes: Sequence[Outcome], expected: Mapping[str, Sequence[Expected]], seed: int = 0) -> Skill:
    """Compare what was expected of each outcome, by student in the order of :func:`students_of`, with its gain."""
    by_student = students_of(outcomes)
    pairs = [(e, o) for student, own in by_student.items() for e, o in zip(expected[student], own, strict=True)]
    correlations = np.array(list(_correlations(by_student, expected)))
    low, high = _bootstrap(correlations, seed)
    return Skill(
        num_students=len(by_student),
        num_outcomes=len(outcomes),
        spearman=float(correlations.mean()) if correlations.size else math.nan,
        low=low,
        high=high,
        coverage=float(np.mean([e.low <= o.gain <= e.high for e, o in pairs])),
        mean_error=float(np.mean([abs(e.gain - o.gain) for e, o in pairs])),
        regret=_regret(by_student, expected),
    )


def _by_recipe(own: Sequence[Outcome], values: Sequence[float]) -> dict[str, float]:
    """The mean over seeds of a value of each recipe."""
    found: dict[str, list[float]] = {}
    for outcome, value in zip(own, values, strict=True):
        found.setdefault(outcome.recipe, []).append(value)
    return {recipe: float(np.mean(each)) for recipe, each in found.items()}


def _correlations(
    by_student: Mapping[str, Sequence[Outcome]], expected: Mapping[str, Sequence[Expected]]
) -> Iterator[float]:
    for student, own in by_student.items():
        true = _by_recipe(own, [outcome.gain for outcome in own])
        guessed = _by_recipe(own, [one.gain for one in expected[student]])
        if len(true) >= MIN_RECIPES:
            value = float(spearman(np.array([guessed[name] for name in true]), np.array(list(true.values()))))
            if not math.isnan(value):
                yield value


def _bootstrap(values: Values, seed: int, num_resamples: int = 2000) -> tuple[float, float]:
    """Percentiles of the mean over resampled students."""
    if not values.size:
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    means = values[generator.integers(0, len(values), size=(num_resamples, len(values)))].mean(axis=1)
    low, high = np.percentile(means, (100 * ALPHA / 2, 100 - 100 * ALPHA / 2))
    return float(low), float(high)


def _regret(
    by_student: Mapping[str, Sequence[Outcome]], expected: Mapping[str, Sequence[Expected]]
) -> dict[str, float]:
    """The mean regret of the forecast, and of each recipe that all students have."""
    lost: dict[str, list[float]] = {}
    for student, own in by_student.items():
        true = _by_recipe(own, [outcome.gain for outcome in own])
        guessed = _by_recipe(own, [one.gain for one in expected[student]])
        best = max(true.values())
        lost.setdefault("forecast", []).append(best - true[max(guessed, key=lambda name: guessed[name])])
        for recipe, gain in true.items():
            lost.setdefault(f"always {recipe}", []).append(best - gain)
    return {name: float(np.mean(each)) for name, each in lost.items() if len(each) == len(by_student)}
