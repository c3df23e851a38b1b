"""Group-sequential boundaries against published values and simulated paths, and the looks at paired differences."""

from __future__ import annotations

import math

import numpy as np
import pytest

from micota.analysis.intervals import paired_mean
from micota.analysis.sequential import Look, boundaries, conditional_power, looks, repeated_p_value, simultaneous, spent
from micota.analysis.statistics import PairingError, paired_difference
from micota.config.stopping import OBRIEN_FLEMING, POCOCK, SPENDING

FIFTHS = [0.2, 0.4, 0.6, 0.8, 1.0]


@pytest.mark.parametrize(
    ("spending", "published"),
    [  # two-sided 5 %, five equal looks: Reboussin et al. 2000, Control. Clin. Trials 21:190 (program ld98)
        (OBRIEN_FLEMING, [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
        (POCOCK, [2.4380, 2.4268, 2.4101, 2.3966, 2.3859]),
    ],
)
def test_boundaries_are_the_published_ones(spending: str, published: list[float]) -> None:
    assert boundaries(FIFTHS, spending=spending) == pytest.approx(published, abs=2e-4)


@pytest.mark.parametrize("spending", SPENDING)
def test_all_error_is_spent_at_the_end(spending: str) -> None:
    assert spent(1.0, 0.05, spending) == 0.05
    assert 0 < spent(0.3, 0.05, spending) < spent(0.6, 0.05, spending) < 0.05
    assert boundaries([1.0], spending=spending) == pytest.approx([1.95996], abs=1e-4)


@pytest.mark.parametrize("spending", SPENDING)
def test_paths_without_a_difference_cross_in_5_percent(spending: str) -> None:
    fractions = np.array([0.35, 0.5, 0.9, 1.0])
    steps = np.sqrt(np.diff(fractions, prepend=0.0))
    paths = np.cumsum(np.random.default_rng(0).normal(size=(200_000, 4)) * steps, axis=1) / np.sqrt(fractions)
    crossed = (np.abs(paths) >= boundaries(list(fractions), spending=spending)).any(axis=1)
    assert crossed.mean() == pytest.approx(0.05, abs=0.002)


def test_a_look_that_adds_no_information_spends_nothing() -> None:
    first, second, third = boundaries([0.5, 0.5, 1.0])
    assert math.isinf(second) and [first, third] == pytest.approx(boundaries([0.5, 1.0]))


@pytest.mark.parametrize("fractions", [[0.0, 1.0], [0.5, 0.4], [0.5, 1.1], [-0.1]])
def test_fractions_that_fall_or_leave_the_range_are_refused(fractions: list[float]) -> None:
    with pytest.raises(ValueError, match="accepted: numbers above 0 and at most 1 that never fall"):
        boundaries(fractions)


def answers(difference: float, seeds: int, count: int = 400, spread: float = 0.0) -> list[list[np.ndarray]]:
    generator = np.random.default_rng(1)
    first = 0.5 + (difference + spread * generator.choice([-1, 1], count)) / 2
    return [[(generator.random(count) < first) - 1.0 * (generator.random(count) < 1 - first)] for _ in range(seeds)]


def test_information_follows_what_seeds_add() -> None:
    of_seeds = looks(answers(0.0, 3), planned=4)
    assert [look.fraction for look in of_seeds] == pytest.approx([0.25, 0.5, 0.75], abs=0.06), "only seeds vary"
    of_problems = looks(answers(0.0, 3, spread=0.95), planned=4)
    assert of_problems[0].fraction == 0.25, "one seed does not tell what the next ones add"
    assert of_problems[1].fraction > 0.9, "problems differ, so more seeds add little"
    assert all(look.decision is None for look in of_seeds)
    assert looks(answers(0.0, 4), planned=4)[-1].fraction == 1.0


@pytest.mark.parametrize(("difference", "decision"), [(0.5, "better"), (-0.5, "worse")])
def test_it_ends_at_the_first_look_that_decides(difference: float, decision: str) -> None:
    found = looks(answers(difference, 4), planned=5)
    assert [look.decision for look in found] == [decision] and found[0].seeds == 1


def test_no_difference_at_all_is_no_decision() -> None:
    [look] = looks([[np.zeros(10)]], planned=3, futile=0.1)
    assert look.z == 0 and look.decision == "futile"
    assert looks([[np.zeros(10)]], planned=3)[0].decision is None


def test_more_seeds_than_planned_are_refused() -> None:
    with pytest.raises(PairingError, match="3 seeds are finished, of 2 planned"):
        looks(answers(0.0, 3), planned=2)


def test_conditional_power() -> None:
    assert conditional_power(1.959964, 0.5) == pytest.approx(0.875, abs=0.001)  # Phi((1.96 sqrt(2) - 1.96) / sqrt(.5))
    assert conditional_power(0.0, 0.5) < 0.01 < 0.99 < conditional_power(4.0, 0.5)
    assert [conditional_power(z, 1.0) for z in (1.9, 2.0)] == [0.0, 1.0]


def look(seeds: int, fraction: float, z: float) -> Look:
    return Look(seeds=seeds, planned=3, fraction=fraction, z=z, boundary=math.inf, chance=0.0)


@pytest.mark.parametrize("spending", SPENDING)
def test_the_repeated_p_value_is_the_rate_at_which_the_look_decides(spending: str) -> None:
    found = [look(1, 0.4, 1.0), look(2, 0.7, 2.6)]
    p_value = repeated_p_value(found, spending)
    assert boundaries([0.4, 0.7], p_value, spending)[-1] == pytest.approx(2.6, abs=1e-3)
    assert p_value > 2 * 0.00466, "a look costs more than a single test"
    assert repeated_p_value([look(1, 0.4, 0.0)], spending) == 1.0
    assert 0.5 < repeated_p_value([look(1, 0.4, 0.1), look(2, 0.8, 0.2), look(3, 1.0, 0.1)], spending) <= 1.0
    assert repeated_p_value([look(1, 1.0, 2.0)], spending) == pytest.approx(0.0455, abs=1e-4)


def test_intervals_exclude_0_where_the_looks_decide() -> None:
    generator = np.random.default_rng(2)
    right = {f"{i}": float(generator.random() < 0.8) for i in range(300)}
    wrong = {f"{i}": float(generator.random() < 0.5) for i in range(300)}
    same = {name: float(generator.random() < 0.8) for name in right}
    differences = {
        name: paired_difference({"b": right}, {"b": other}) for name, other in (("far", wrong), ("near", same))
    }
    found = {name: looks([one.deltas], planned=3, alpha=0.025) for name, one in differences.items()}
    decided = {name: one[-1].decision is not None for name, one in found.items()}
    assert decided == {"far": True, "near": False}
    result = simultaneous(differences, found)
    assert {name: one.is_distinguishable for name, one in result.items()} == decided
    assert result["far"].low > 0 >= result["near"].low
    plain = paired_mean(differences["far"].deltas[0])
    assert result["far"].low < plain.low and result["far"].high > plain.high
