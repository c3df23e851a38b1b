from __future__ import annotations

from collections.abc import Callable

import pytest

from micota.errors import ConfigError
from micota.merging.calibrate import Reading, calibrate

BEFORE, AFTER = Reading(0.0, 0.0, 1.0, 40.0), Reading(0.0, 1.0, 0.9, 160.0)


def measured(
    curve: Callable[[float, float], tuple[float, float]],
) -> tuple[Callable[[float, float], Reading], list[float]]:
    weights: list[float] = []

    def measure(density: float, weight: float) -> Reading:
        weights.append(weight)
        accuracy, num_tokens = curve(density, weight)
        return Reading(density, weight, accuracy, num_tokens)

    return measure, weights


def search(
    curve: Callable[[float, float], tuple[float, float]], *, densities: tuple[float, ...] = (0.5,), num_steps: int = 6
) -> tuple[Reading, list[Reading], list[float]]:
    measure, weights = measured(curve)
    chosen, readings = calibrate(measure, 80.0, BEFORE, AFTER, densities, [0.25, 0.5, 0.75], 0.02, num_steps)
    return chosen, readings, weights


def test_it_finds_where_a_rising_curve_crosses_the_target() -> None:
    chosen, readings, weights = search(lambda density, weight: (0.9, 40 + 120 * weight**2))
    assert chosen.num_tokens == pytest.approx(80, rel=0.02) and chosen.weight == pytest.approx(3**-0.5, abs=0.02)
    assert weights[:3] == [0.25, 0.5, 0.75] and weights[3] == 0.625
    assert [reading.weight for reading in readings] == weights


def test_it_searches_below_the_first_and_above_the_last_weight_too() -> None:
    low, _, _ = search(lambda density, weight: (0.9, 40 + 120 * weight**0.3))
    high, _, _ = search(lambda density, weight: (0.9, 40 + 120 * weight**8))
    assert low.weight < 0.25 and high.weight > 0.75


def test_of_several_densities_the_most_accurate_is_chosen() -> None:
    chosen, _, _ = search(lambda density, weight: (density, 40 + 120 * weight), densities=(0.3, 0.7, 0.5))
    assert chosen.density == 0.7


def test_where_the_target_is_crossed_more_than_once_the_more_accurate_crossing_is_narrowed_first() -> None:
    def curve(density: float, weight: float) -> tuple[float, float]:
        return (0.5 if weight < 0.4 else 0.9), 40 + 120 * (weight - 0.5) ** 2 * 4 + 20 * weight

    chosen, _, _ = search(curve)
    assert chosen.weight > 0.4 and chosen.accuracy == 0.9


def test_a_point_of_the_first_weights_is_taken_as_it_is() -> None:
    chosen, _, weights = search(lambda density, weight: (0.9, 40 + 80 * weight))
    assert chosen.weight == 0.5 and weights == [0.25, 0.5, 0.75]


def test_the_search_ends() -> None:
    measure, weights = measured(lambda density, weight: (0.9, 40 if weight < 0.6 else 160))
    with pytest.raises(ConfigError, match=r"no merge within 2% of 80 tokens .* nearest is .* merge_sweep.num_steps"):
        calibrate(measure, 80.0, BEFORE, AFTER, [0.5], [0.25, 0.5, 0.75], 0.02, 3)
    assert len(weights) == 3 + 3
