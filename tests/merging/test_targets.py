"""Searches for a target on curves that are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from micota.errors import ConfigError
from micota.merging.calibrate import Reading
from micota.merging.targets import MeasureAll, Setting, Target, Weights, evolve, minimise


def measuring(value: Callable[[Weights], float], accuracy: Callable[[float], float] = lambda weight: 1.0) -> MeasureAll:
    def measure(settings: Sequence[Setting]) -> list[Reading]:
        return [
            Reading(density, mean, accuracy(mean), 100 * mean, value(weights))
            for density, weights in settings
            for mean in [sum(weights) / len(weights) if isinstance(weights, tuple) else weights]
        ]

    return measure


def test_the_grid_is_refined_on_both_sides_of_its_best() -> None:
    target = Target("student_bpc")
    readings = minimise(measuring(lambda w: (float(w) - 0.38) ** 2), target, [0.5], [0.3, 0.5, 0.9], 4)  # type: ignore[arg-type]
    assert [reading.weight for reading in readings] == [0.3, 0.5, 0.9, 0.4, 0.35, 0.45, 0.375]
    assert target.chosen(readings).weight == 0.375


def test_one_weight_has_no_neighbour() -> None:
    assert len(minimise(measuring(lambda w: 0.0), Target("student_bpc"), [0.3, 0.5], [0.5], 4)) == 2


def test_the_fewest_bits_count_only_among_merges_that_are_accurate_enough() -> None:
    easy = measuring(lambda w: float(w), accuracy=lambda weight: 0.9 if weight > 0.4 else 0.5)  # type: ignore[arg-type]
    readings = minimise(easy, Target("student_bpc", 0.85), [0.5], [0.2, 0.5, 0.8], 4)
    assert Target("student_bpc", 0.85).chosen(readings).weight == 0.425
    with pytest.raises(ConfigError, match=r"no merge reaches the accuracy 0\.950 that merge_sweep\.accuracy_loss lea"):
        Target("student_bpc", 0.95).chosen(readings)


def test_of_equal_merges_the_shorter_is_taken_and_one_without_right_answers_is_the_last() -> None:
    readings = [Reading(0.5, 0.5, 1.0, 90.0, 0.7), Reading(0.5, 0.3, 1.0, 60.0, 0.7), Reading(0.5, 0.9, 0.0, 9.0)]
    for name in ("student_bpc", "student_gain", "accuracy"):
        assert Target(name).chosen(readings).num_tokens == 60.0
        assert max(readings, key=Target(name).cost).value is None


@pytest.mark.filterwarnings("ignore:Could not import matplotlib")
def test_evolution_finds_the_weight_of_each_block_from_plain_interpolation_on() -> None:
    best = np.array([0.1, 0.9, 0.5])
    asked: list[Weights] = []

    def distance(weights: Weights) -> float:
        asked.append(weights)
        return float(np.square(np.array(weights) - best).sum())

    target = Target("student_bpc")
    readings = evolve(measuring(distance), target, 0.5, 0.5, 3, 150, seed=0)
    assert len(readings) == 150 and asked[0] == (0.5, 0.5, 0.5)
    assert target.chosen(readings).value == pytest.approx(0, abs=1e-3)
    assert all(0 <= weight <= 1 for weights in asked for weight in weights)  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore:Could not import matplotlib")
def test_evolution_asks_for_the_same_merges_whatever_else_draws_random_numbers() -> None:
    """Training between two generations draws, and seeds; a run that goes on finds its points in the store instead."""

    def run(disturb: Callable[[], object]) -> list[Weights]:
        asked: list[Weights] = []

        def value(weights: Weights) -> float:
            asked.append(weights)
            disturb()
            return float(sum(weights))  # type: ignore[arg-type]

        evolve(measuring(value), Target("student_bpc"), 0.5, 0.5, 3, 30, seed=1)
        return asked

    state = np.random.get_state()[1].tolist()
    plain = run(lambda: None)
    assert np.random.get_state()[1].tolist() == state, "the caller's numbers are as if nothing had been drawn"
    assert plain == run(lambda: np.random.seed(5)) == run(lambda: np.random.rand(7))
    assert len({tuple(weights) for weights in plain}) > 25  # type: ignore[arg-type]
