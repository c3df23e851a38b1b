"""The forecast of gains on students that it has not seen, on outcomes with a known law."""

from __future__ import annotations

import math

import numpy as np
import pytest

from micota.analysis.forecast import MIN_STUDENTS, Outcome, fit, skill

RECIPES = {"short": 30.0, "micota": 60.0, "strong": 150.0}


def outcomes(num_students: int, noise: float = 0.01, seed: int = 0) -> list[Outcome]:
    """Small students lose with long data and large ones gain: the gain depends on a product of two features."""
    generator = np.random.default_rng(seed)
    found = []
    for number in range(num_students):
        size = float(generator.uniform(4, 6))
        for recipe, length in RECIPES.items():
            for run in range(2):
                gain = 0.1 * (size - 5) * (math.log(length) - 4) + noise * generator.normal()
                known = {"num_tokens": length, "num_parameters": 10**size, "bits_per_byte": float(generator.uniform())}
                found.append(Outcome(student=f"s{number}", recipe=recipe, seed=run, known=known, gain=gain))
    return found


def test_it_learns_what_depends_on_student_and_data_together() -> None:
    forecaster = fit(outcomes(30))
    assert forecaster.features == ("bits_per_byte", "num_tokens", "num_parameters"), "those that all outcomes have"
    assert forecaster.degree == 2
    small, large = (
        forecaster.expect("strong", {"num_tokens": 150.0, "num_parameters": size, "bits_per_byte": 0.5})
        for size in (1e4, 1e6)
    )
    assert small.gain == pytest.approx(-0.1, abs=0.02) and large.gain == pytest.approx(0.1, abs=0.02)
    assert small.low < small.gain < small.high < 0 < large.low


def test_a_known_recipe_helps_where_its_measures_do_not() -> None:
    generator = np.random.default_rng(5)
    effects = {"good": 0.2, "bad": -0.3, "neutral": 0.0}
    rows = [
        Outcome(
            student=f"s{number}", recipe=name, seed=0, known={"bits_per_byte": generator.uniform(0.1, 1)}, gain=gain
        )
        for number in range(10)
        for name, effect in effects.items()
        for gain in [effect + generator.normal(0, 0.01)]
    ]
    forecaster = fit(rows)
    expected = {name: forecaster.expect(name, {"bits_per_byte": 0.5}).gain for name in effects}
    assert expected == pytest.approx(effects, abs=0.03)
    new = forecaster.expect("new", {"bits_per_byte": 0.5}).gain
    assert new == pytest.approx(np.mean(list(effects.values())), abs=0.03), "nothing is known of it"


def test_its_skill_is_that_on_unseen_students() -> None:
    found = skill(outcomes(25))
    assert (found.num_students, found.num_outcomes) == (25, 150)
    assert found.spearman > 0.85 and found.low <= found.spearman <= found.high
    assert 0.88 <= found.coverage <= 1.0
    assert found.mean_error < 0.02
    assert set(found.regret) == {"forecast", "always short", "always micota", "always strong"}
    assert found.regret["forecast"] < 0.2 * min(value for name, value in found.regret.items() if name != "forecast")


def test_of_noise_it_says_that_it_knows_nothing() -> None:
    generator = np.random.default_rng(3)
    rows = [
        Outcome(student=one.student, recipe=one.recipe, seed=one.seed, known=one.known, gain=generator.normal())
        for one in outcomes(20)
    ]
    found = skill(rows)
    assert found.low < 0.2 and abs(found.spearman) < 0.4
    expected = fit(rows).expect(rows[0].recipe, rows[0].known)
    assert expected.low < -1 and expected.high > 1, "as wide as the gains vary"


def test_intervals_hold_the_gains_of_new_students() -> None:
    known = fit(outcomes(20, noise=0.05, seed=1))
    new = outcomes(60, noise=0.05, seed=2)
    held = [
        one.low <= outcome.gain <= one.high for outcome in new for one in [known.expect(outcome.recipe, outcome.known)]
    ]
    assert 0.9 <= np.mean(held) <= 0.995


def test_too_few_students_and_missing_measures_are_refused() -> None:
    with pytest.raises(ValueError, match=f"{MIN_STUDENTS - 1} students .* at least {MIN_STUDENTS} are needed"):
        fit(outcomes(MIN_STUDENTS - 1))
    with pytest.raises(ValueError, match="known lacks num_parameters; accepted: all of"):
        fit(outcomes(6)).expect("short", {"num_tokens": 30.0, "bits_per_byte": 0.5})
    bare = [Outcome(student=str(i), recipe="r", seed=0, known={}, gain=0.0) for i in range(6)]
    with pytest.raises(ValueError, match="is known of all outcomes"):
        fit(bare)
