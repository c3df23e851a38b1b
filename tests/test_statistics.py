from __future__ import annotations

import numpy as np
import pytest

from micota.statistics import macro_average, paired_difference, wilson


def test_wilson_against_published_values() -> None:
    # Newcombe (1998), table I: 81/263 and 0/20, method 3 (score interval without continuity correction).
    assert wilson(81, 263).low == pytest.approx(0.2553, abs=1e-4)
    assert wilson(81, 263).high == pytest.approx(0.3662, abs=1e-4)
    assert (wilson(0, 20).low, wilson(0, 20).high) == (0.0, pytest.approx(0.1611, abs=1e-4))


def test_macro_average_weighs_benchmarks_equally() -> None:
    estimate = macro_average({"small": [1.0, 1.0], "large": [0.0] * 98 + [1.0] * 2})
    assert estimate.value == pytest.approx(0.51)
    assert estimate.low < 0.51 < estimate.high


def test_macro_average_interval_covers_the_truth() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        estimate = macro_average({"a": generator.random(100) < 0.3, "b": generator.random(200) < 0.7})
        covered += estimate.low <= 0.5 <= estimate.high
    assert 0.92 <= covered / 400 <= 0.98


def test_paired_difference_sees_what_is_there() -> None:
    theirs = {"a": [0.0] * 50 + [1.0] * 50}
    ours = {"a": [0.0] * 30 + [1.0] * 70}
    difference = paired_difference(ours, theirs)
    assert difference.value == pytest.approx(0.2)
    assert difference.is_distinguishable and difference.low > 0


def test_paired_difference_of_equals_is_not_distinguishable() -> None:
    same = {"a": [0.0, 1.0, 1.0], "b": [1.0, 0.0]}
    assert paired_difference(same, same).p_value == 1.0


def test_p_values_under_the_null_are_not_too_small() -> None:
    generator = np.random.default_rng(1)
    rejected = 0
    for trial in range(300):
        ours, theirs = ({"a": generator.random(80) < 0.5} for _ in range(2))
        rejected += paired_difference(ours, theirs, seed=trial, draws=500).is_distinguishable
    assert rejected / 300 < 0.08


def test_pairs_must_match() -> None:
    with pytest.raises(ValueError, match="same benchmarks and problems"):
        paired_difference({"a": [1.0]}, {"a": [1.0, 0.0]})
