from __future__ import annotations

import math

import pytest

from micota.analysis.likelihood import bits_of
from micota.records import ExampleScore


def row(index: int, bits: float, text: str) -> ExampleScore:
    return ExampleScore(
        index=index, problem_id=str(index), source="x", nll_nats=bits * math.log(2),
        num_bytes=len(text.encode()), num_characters=len(text), num_tokens=3 + index,
        rank_sum=2 * (3 + index), num_beyond={"1": 3, "10": 1, "100": 0},
    )  # fmt: skip


def test_bits_over_bytes_and_over_characters() -> None:
    likelihood = bits_of([row(0, 6.0, "ab"), row(1, 12.0, "√√")])
    assert likelihood.bits_per_byte == pytest.approx(18 / 8)
    assert likelihood.bits_per_character == pytest.approx(18 / 4)
    assert likelihood.nats_per_byte == pytest.approx(18 / 8 * math.log(2))
    assert likelihood.num_tokens == 3.5


def test_the_mean_counts_examples_alike_and_the_total_does_not() -> None:
    rows = [row(0, 10.0, "a" * 10), row(1, 300.0, "b" * 100)]
    likelihood = bits_of(rows)
    assert likelihood.mean == pytest.approx((1 + 3) / 2)
    assert likelihood.bits_per_byte == pytest.approx(310 / 110)
    assert (likelihood.p10, likelihood.p50, likelihood.p90) == pytest.approx((1.2, 2.0, 2.8))
    assert rows[0].bits_per_character == pytest.approx(1.0)


def test_the_rank_surprisal_ratio_of_a_set_is_of_its_means() -> None:
    rows = [row(0, 3 / math.log(2), "ab"), row(1, 16 / math.log(2), "abc")]  # 3 tokens at 1 nat, 4 at 4 nats, rank 2
    likelihood = bits_of(rows)
    assert rows[1].rank_surprisal_ratio == pytest.approx(8 / 16)
    assert (likelihood.mean_rank, likelihood.surprisal) == pytest.approx((2.0, 2.5))
    assert likelihood.rank_surprisal_ratio == pytest.approx(2 / 2.5)
    shares = (likelihood.share_beyond_1, likelihood.share_beyond_10, likelihood.share_beyond_100)
    assert shares == pytest.approx((6 / 7, 2 / 7, 0.0))
