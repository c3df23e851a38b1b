from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic_store import score

from micota.analysis.metrics import (
    by_budget,
    by_label,
    cost,
    crossings,
    described,
    flat,
    majority_at,
    majority_values,
    pass_at,
    shown_ks,
)
from micota.records import Score

Vote = tuple[int | None, bool]


def votes(text: str) -> list[Vote]:
    """``aab-``: four samples, of which a is the right answer and the last has none."""
    return [(None if letter == "-" else ord(letter), letter == "a") for letter in text]


@pytest.mark.parametrize(("text", "expected"), [
    ("aab", 1), ("abb", 0), ("aabb", 0.5), ("abc", 1 / 3), ("---", 0), ("a---", 1), ("b---", 0), ("bbcca", 0),
])  # fmt: skip
def test_majority_of_all_samples(text: str, expected: float) -> None:
    assert majority_values({"p": votes(text)}, len(text)) == {"p": pytest.approx(expected)}


def test_majority_of_one_sample_is_accuracy() -> None:
    assert majority_values({"p": votes("aab-")}, 1)["p"] == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(("text", "k", "expected"), [
    ("abb-", 1, 1 / 4),
    ("abb-", 2, (2 * 0.5 + 1) / 6),  # ab twice, a- once; bb and b- are wrong
    ("aab", 2, (1 + 2 * 0.5) / 3),
    ("aabbc", 3, (3 + 4 / 3) / 10),  # aab twice and aac; abc four times
])  # fmt: skip
def test_majority_of_some_samples(text: str, k: int, expected: float) -> None:
    assert majority_values({"p": votes(text)}, k)["p"] == pytest.approx(expected, abs=1e-12)


def test_majority_of_subsets_is_their_mean() -> None:
    # Of 3 of aabb: two of {aab, aab, abb, abb} have a majority of a.
    assert majority_values({"p": votes("aabb")}, 3)["p"] == pytest.approx(0.5, abs=0.08)
    assert majority_values({"p": votes("aabb")}, 3) == majority_values({"p": votes("aabb")}, 3)
    generator = np.random.default_rng(0)
    rows = {str(i): votes("".join(generator.choice(list("aabbc-"), size=16))) for i in range(40)}
    small, large = (np.mean(list(majority_values(rows, k).values())) for k in (1, 8))
    accuracy = np.mean([sum(right for _, right in row) / 16 for row in rows.values()])
    assert small == pytest.approx(accuracy, abs=0.02) and large > small


@pytest.mark.parametrize("k", [0, 4])
def test_majority_needs_k_samples(k: int) -> None:
    with pytest.raises(ValueError, match=rf"maj@k with k={k} from 3 samples .* accepted: k from 1 to 3"):
        majority_values({"p": votes("aab")}, k)


def test_shown_ks() -> None:
    assert [shown_ks(count) for count in (1, 2, 6, 8)] == [[], [2], [2, 4, 6], [2, 4, 8]]


def rows(samples: dict[str, str]) -> list[Score]:
    """Four letters for four samples of a problem; a is right."""
    return [
        replace(
            score(name, sample, letter == "a"), group=ord(letter), seconds=2.0, num_tokens=10, level=f"Level {name}",
            subject="Algebra",
        )
        for name, letters in samples.items()
        for sample, letter in enumerate(letters)
    ]  # fmt: skip


def test_metrics_of_a_benchmark() -> None:
    scores = rows({"2": "aaab", "10": "abbb", "1": "cccc"})
    plain = described(scores)
    assert plain["pass_at"]["4"]["value"] == pytest.approx(2 / 3)
    assert plain["majority_at"]["4"]["value"] == pytest.approx(1 / 3)
    assert plain["pass_at"]["2"]["value"] == pytest.approx((1 + 0.5) / 3)
    assert list(plain["by_level"]) == ["Level 1", "Level 2", "Level 10"]
    assert plain["by_subject"]["Algebra"]["value"] == pytest.approx(4 / 12)
    assert plain["tokens_per_right"] == 30 and plain["seconds_per_right"] == 6
    numbers = flat(plain)
    assert numbers["pass@4"] == pytest.approx(2 / 3) and numbers["level/Level 2"] == 0.75
    assert numbers["maj@4"] == pytest.approx(1 / 3) and numbers["tokens_per_right"] == 30


def test_seeds_are_averaged_within_a_problem() -> None:
    one, other = rows({"p": "aaaa", "q": "bbbb"}), rows({"p": "bbbb", "q": "bbbb"})
    assert pass_at([one, other])[4].value == majority_at([one, other])[4].value == pytest.approx(0.25)


def test_accuracy_by_token_budget() -> None:
    scores = [
        replace(score(name, 0, True), right_at={"8": name == "p", "64": True, "16": name in "pq"}) for name in "pqrs"
    ]
    curve = by_budget(scores)
    assert [(budget, estimate.value) for budget, estimate in curve.items()] == [(8, 0.25), (16, 0.5), (64, 1.0)]
    assert flat(described(scores))["budget/16"] == 0.5


def test_curves_cross_between_budgets() -> None:
    base = {8: 0.5, 16: 0.5, 64: 0.5}
    assert crossings({8: 0.2, 16: 0.4, 64: 0.6}, base) == [(pytest.approx(32), True)]
    assert crossings({8: 0.6, 16: 0.4, 64: 0.4}, base) == [(pytest.approx(8 * 2**0.5), False)]
    assert crossings({8: 0.2, 16: 0.5, 64: 0.6}, base) == [(pytest.approx(16), True)]
    assert crossings({8: 0.6, 16: 0.6}, base) == crossings({}, base) == []


def test_what_rows_lack_is_left_out() -> None:
    scores = [replace(row, group=None, seconds=None, level=None, subject=None) for row in rows({"p": "abab"})]
    assert majority_at([scores]) == {} and by_label(scores, "level") == {}
    assert set(described(scores)) == {"pass_at", "tokens_per_right", "seconds_per_right"}
    assert cost(scores).seconds_per_right is None
    assert cost(rows({"p": "bb"})).tokens_per_right is None
    assert "pass_at" not in described([score("p", 0, True)])
