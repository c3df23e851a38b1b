from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest

from micota.analysis.intervals import wilson
from micota.analysis.statistics import (
    Suite,
    average_at_k,
    holm,
    macro_average,
    mcnemar,
    minimum_detectable_effect,
    paired_difference,
    paired_error,
    pass_at_k,
    problem_means,
    simultaneous,
    unpaired_error,
)

PAPER = {"aime24": 30, "amc23": 40, "olympiadbench": 675, "math500": 500, "gsm8k": 1319}
ACCURACY = {"aime24": 0.15, "amc23": 0.5, "olympiadbench": 0.35, "math500": 0.75, "gsm8k": 0.9}
DISCORDANCE = {"aime24": 0.15, "amc23": 0.25, "olympiadbench": 0.2, "math500": 0.15, "gsm8k": 0.08}


def suite(**benchmarks: Iterable[float]) -> Suite:
    return {name: named(values) for name, values in benchmarks.items()}


def named(values: Iterable[float]) -> dict[str, float]:
    return {str(index): float(value) for index, value in enumerate(values)}


def paired_suites(generator: np.random.Generator, gain: float) -> tuple[Suite, Suite]:
    """Two models on the paper's suite that differ on DISCORDANCE of the problems, by ``gain`` on average."""
    first: dict[str, dict[str, float]] = {}
    second: dict[str, dict[str, float]] = {}
    for bench, count in PAPER.items():
        uniform = generator.random(count)
        better = uniform < (DISCORDANCE[bench] + gain) / 2
        worse = ~better & (uniform < DISCORDANCE[bench])
        first[bench], second[bench] = named(better), named(worse)
    return first, second


def test_average_of_one_sample_is_wilson() -> None:
    rights = {str(index): [float(index < 9)] for index in range(30)}
    estimate = average_at_k(rights)
    assert (estimate.low, estimate.high) == pytest.approx((wilson(9, 30).low, wilson(9, 30).high))
    assert (estimate.value, estimate.num_samples) == (0.3, 1)
    assert estimate.standard_error == pytest.approx(math.sqrt(0.3 * 0.7 / 29))


def test_more_samples_do_not_pretend_to_be_more_problems() -> None:
    once = {str(index): [float(index < 9)] for index in range(30)}
    copied = {name: values * 16 for name, values in once.items()}
    assert (average_at_k(copied).low, average_at_k(copied).high) == pytest.approx(
        (average_at_k(once).low, average_at_k(once).high)
    )
    certain = average_at_k({str(index): [1.0] * 16 for index in range(30)})
    assert certain.low == pytest.approx(wilson(30, 30).low) and certain.high == 1


def test_pass_at_k_is_unbiased_and_exact() -> None:
    assert pass_at_k({"a": [1, 0, 0, 0]}, 2).value == pytest.approx(0.5)  # 1 - C(3,2)/C(4,2)
    assert pass_at_k({"a": [1, 1, 1, 0]}, 2).value == 1  # fewer than 2 are wrong
    assert pass_at_k({"a": [0, 0]}, 2).value == 0
    samples = {"a": [1, 0, 0], "b": [1, 1, 0], "c": [0, 0, 0]}
    assert pass_at_k(samples, 1).value == pytest.approx(average_at_k(samples).value)
    generator = np.random.default_rng(3)
    chance = generator.random(200)
    estimates = []
    for _ in range(100):
        rights = generator.random((200, 8)) < chance[:, None]
        estimates.append(pass_at_k({str(i): row.astype(float).tolist() for i, row in enumerate(rights)}, 4).value)
    assert np.mean(estimates) == pytest.approx(np.mean(1 - (1 - chance) ** 4), abs=0.003)


@pytest.mark.parametrize("k", [0, 5])
def test_pass_at_k_needs_k_samples(k: int) -> None:
    with pytest.raises(ValueError, match=rf"k={k} from 4 samples .* accepted: k from 1 to 4"):
        pass_at_k({"a": [1, 0, 0, 0]}, k)


def test_sample_counts_are_asserted() -> None:
    uneven = {"p1": [1.0, 0.0], "p2": [1.0], "p3": [1.0, 1.0]}
    for function in (average_at_k, problem_means, lambda samples: pass_at_k(samples, 1)):
        with pytest.raises(ValueError, match="problem 'p2' has 1 samples and others have 2"):
            function(uneven)
    with pytest.raises(ValueError, match="no problems"):
        average_at_k({})


def test_macro_average_weighs_benchmarks_equally() -> None:
    estimate = macro_average(suite(small=[1.0, 1.0], large=[0.0] * 98 + [1.0] * 2))
    assert estimate.value == pytest.approx(0.51)
    assert estimate.low < 0.51 < estimate.high


def test_macro_average_interval_covers_the_truth() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        estimate = macro_average(suite(a=generator.random(100) < 0.3, b=generator.random(200) < 0.7))
        covered += estimate.low <= 0.5 <= estimate.high
    assert 0.92 <= covered / 400 <= 0.98


def test_paired_difference_detects_a_difference() -> None:
    difference = paired_difference(suite(a=[0.0] * 30 + [1.0] * 70), suite(a=[0.0] * 50 + [1.0] * 50))
    assert difference.value == pytest.approx(0.2)
    assert difference.is_distinguishable and difference.low > 0 and difference.label == "better"
    opposite = paired_difference(suite(a=[0.0] * 50 + [1.0] * 50), suite(a=[0.0] * 30 + [1.0] * 70))
    assert opposite.label == "worse"


def test_paired_difference_of_equals_is_not_distinguishable() -> None:
    same = suite(a=[0.0, 1.0, 1.0], b=[1.0, 0.0])
    assert paired_difference(same, same).p_value == 1.0
    assert paired_difference(same, same).label == "not distinguishable"


def test_paired_interval_covers_the_truth_on_the_papers_suite() -> None:
    generator = np.random.default_rng(4)
    covered = 0
    for _ in range(500):
        difference = paired_difference(*paired_suites(generator, gain=0.03), num_resamples=200)
        covered += difference.low <= 0.03 <= difference.high
    assert 0.93 <= covered / 500 <= 0.98


@pytest.mark.parametrize("num_problems", [7, 1001, 3000])
def test_the_sign_test_has_few_signs_in_memory_and_the_p_value_of_all_at_once(
    monkeypatch: pytest.MonkeyPatch, num_problems: int
) -> None:
    generator, num_resamples = np.random.default_rng(5), 500
    deltas = generator.choice([-1.0, -0.5, 0.5, 1.0], num_problems, p=[0.24, 0.24, 0.26, 0.26])
    signs = np.random.default_rng(2).integers(0, 2, size=(num_resamples, num_problems), dtype=np.int8) * 2 - 1
    extreme = np.abs(signs @ deltas) >= abs(deltas.sum()) - 1e-9
    sizes: list[int] = []

    class Counted:
        def __init__(self, seed: int) -> None:
            self._generator = np.random.Generator(np.random.PCG64(seed))

        def integers(self, *limits: int, size: tuple[int, int], dtype: type[np.int8]) -> np.ndarray:
            sizes.append(size[0] * size[1])
            return self._generator.integers(*limits, size=size, dtype=dtype)

    monkeypatch.setattr("micota.analysis.statistics.MAX_SIGNS", 20_000)
    monkeypatch.setattr("micota.analysis.statistics.np.random.default_rng", Counted)
    sides = suite(a=np.maximum(deltas, 0)), suite(a=np.maximum(-deltas, 0))
    difference = paired_difference(*sides, seed=2, num_resamples=num_resamples)
    assert difference.p_value == (1 + extreme.sum()) / (1 + num_resamples)
    assert sum(sizes) == num_resamples * num_problems and max(sizes) <= 20_000


def test_mcnemar_of_very_many_problems_is_that_of_the_normal_distribution() -> None:
    count = 100_000  # no sum of binomials: their whole numbers would have 30,000 digits
    first, second = (np.arange(count) % 2 == side for side in (0, 1))
    first[1:1201:2] = True
    second[1:1201:2] = False
    tested = mcnemar(named(first), named(second))
    difference, total = tested.num_better - tested.num_worse, tested.num_better + tested.num_worse
    assert (tested.num_better, tested.num_worse) == (count // 2 + 600, count // 2 - 600)
    # With the continuity correction the normal tail is exact to a few parts in 10^5 here.
    assert tested.p_value == pytest.approx(math.erfc((difference - 1) / math.sqrt(2 * total)), rel=1e-3)


def test_p_values_under_the_null_are_not_too_small() -> None:
    generator = np.random.default_rng(1)
    rejected = 0
    for trial in range(300):
        first, second = (suite(a=generator.random(80) < 0.5) for _ in range(2))
        rejected += paired_difference(first, second, seed=trial, num_resamples=500).is_distinguishable
    assert rejected / 300 < 0.08


def test_problems_are_paired_by_id_and_not_by_position() -> None:
    first = {"a": {"x": 1.0, "y": 0.0, "z": 1.0}}
    shuffled = {"a": {"z": 1.0, "y": 0.0, "x": 1.0}}
    assert paired_difference(first, shuffled).value == 0
    assert mcnemar(first["a"], shuffled["a"]).num_better == 0


@pytest.mark.parametrize(("first", "second", "text"), [
    ({"a": {"x": 1.0}}, {"a": {"x": 1.0, "y": 0.0}}, r"first side lacks 1 problems of a .* \(y\)"),
    ({"a": {"x": 1.0, "y": 0.0}}, {"a": {"x": 1.0}}, r"second side lacks 1 problems of a .* \(y\)"),
    ({"a": {"x": 1.0}}, {"b": {"x": 1.0}}, r"first side lacks 1 benchmarks .* \(b\)"),
    ({}, {}, "at least one benchmark"), ({"a": {}}, {"a": {}}, "no problems of a"),
])  # fmt: skip
def test_pairs_must_match(first: Suite, second: Suite, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        paired_difference(first, second)


@pytest.mark.parametrize(("better", "worse", "p_value"), [
    (0, 0, 1.0), (5, 5, 1.0), (1, 0, 1.0),
    (6, 0, 2 / 2**6),
    (8, 1, 2 * (1 + 9) / 2**9),
    (2, 10, 2 * (1 + 12 + 66) / 2**12),
])  # fmt: skip
def test_mcnemar_against_binomials(better: int, worse: int, p_value: float) -> None:
    first = named([1] * better + [0] * worse + [1, 0])
    second = named([0] * better + [1] * worse + [1, 0])
    result = mcnemar(first, second)
    assert (result.num_better, result.num_worse, result.num_problems) == (better, worse, better + worse + 2)
    assert result.p_value == pytest.approx(p_value, rel=1e-12)


def test_mcnemar_agrees_with_sign_flips() -> None:
    first, second = named([1] * 9 + [0] * 2 + [1] * 20), named([0] * 9 + [1] * 2 + [1] * 20)
    result = mcnemar(first, second)
    assert result.p_value == pytest.approx(
        paired_difference({"a": first}, {"a": second}, num_resamples=20_000).p_value, abs=0.01
    )
    assert result.label == "not distinguishable"
    assert mcnemar(named([1] * 9), named([0] * 9)).label == "better"


def test_mcnemar_wants_single_samples() -> None:
    with pytest.raises(ValueError, match=r"problem '1' has the value 0.5; accepted: 0 or 1"):
        mcnemar(named([1, 0.5]), named([1, 1]))


def test_holm_against_a_worked_example() -> None:
    p_values = {
        "a": 0.01,
        "b": 0.04,
        "c": 0.03,
        "d": 0.005,
    }  # sorted: 4 x 0.005, 3 x 0.01, 2 x 0.03, then at least that
    assert holm(p_values) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.7, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_holm_keeps_false_alarms_rare() -> None:
    generator = np.random.default_rng(5)
    alarms = sum(
        min(holm({str(index): p for index, p in enumerate(generator.random(6))}).values()) < 0.05 for _ in range(4000)
    )
    assert 0.035 <= alarms / 4000 <= 0.06  # uncorrected it would be 0.26


def test_corrected_intervals_agree_with_corrected_p_values() -> None:
    generator = np.random.default_rng(7)
    seen: set[str] = set()
    for trial in range(40):
        base = suite(a=generator.random(60) < 0.5, b=generator.random(30) < 0.7)
        others = {
            str(i): suite(a=generator.random(60) < 0.5 + 0.06 * i, b=generator.random(30) < 0.7) for i in range(5)
        }
        plain = {name: paired_difference(other, base, seed=trial, num_resamples=999) for name, other in others.items()}
        for name, difference in simultaneous(plain).items():
            assert (difference.low > 0 or difference.high < 0) == difference.is_distinguishable
            assert difference.value == plain[name].value and difference.low <= difference.value <= difference.high
            assert difference.p_value == pytest.approx(holm({n: d.p_value for n, d in plain.items()})[name])
            seen.add(difference.label)
    assert seen >= {"better", "not distinguishable"}
    assert simultaneous({}) == {}


def test_one_comparison_needs_no_correction() -> None:
    plain = paired_difference(suite(a=[1, 1, 1, 0] * 10), suite(a=[1, 0, 1, 0] * 10))
    assert simultaneous({"a": plain})["a"] == plain


def test_corrected_intervals_hold_jointly() -> None:
    """Six models that do not differ from the baseline: the chance that any interval misses 0 is at most 5 %."""
    generator = np.random.default_rng(8)
    missed = 0
    for trial in range(150):
        base, *others = (suite(a=generator.random(60) < 0.6) for _ in range(7))
        plain = {str(i): paired_difference(o, base, seed=trial, num_resamples=999) for i, o in enumerate(others)}
        missed += any(d.low > 0 or d.high < 0 for d in simultaneous(plain).values())
    assert missed / 150 <= 0.08


def test_the_papers_suite_cannot_show_its_gains_unpaired() -> None:
    """Five benchmarks of 30 to 1,319 problems: an average has a standard error of 2 points, a difference of two needs
    5.5 to 6 to be significant and 8 to be detected in 4 of 5 experiments; paired it is 4 to 5."""
    unpaired = unpaired_error(PAPER, ACCURACY)
    assert unpaired / math.sqrt(2) == pytest.approx(0.02, abs=0.002)
    assert 0.055 <= minimum_detectable_effect(unpaired, power=0.5) <= 0.06
    assert 0.078 <= minimum_detectable_effect(unpaired) <= 0.086
    paired = paired_error(PAPER, DISCORDANCE)
    assert 0.035 <= minimum_detectable_effect(paired, power=0.5) <= 0.045
    assert minimum_detectable_effect(paired) == pytest.approx(0.06, abs=0.003)


def test_a_detectable_difference_is_detected_in_four_of_five() -> None:
    gain = minimum_detectable_effect(paired_error(PAPER, DISCORDANCE))
    generator = np.random.default_rng(6)
    detected = sum(
        paired_difference(*paired_suites(generator, gain), seed=trial, num_resamples=400).label == "better"
        for trial in range(300)
    )
    assert 0.74 <= detected / 300 <= 0.86


def test_planning_names_missing_benchmarks() -> None:
    with pytest.raises(ValueError, match=r"lacks 1 benchmarks .* \(gsm8k\)"):
        unpaired_error(PAPER, {name: share for name, share in ACCURACY.items() if name != "gsm8k"})
