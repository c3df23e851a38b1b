from __future__ import annotations

import math

import pytest

from micota.analysis.likelihood import bits_of
from micota.records import ExampleScore


def row(index: int, bits: float, text: str) -> ExampleScore:
    return ExampleScore(
        index=index, problem_id=str(index), source="x", nll_nats=bits * math.log(2),
        num_bytes=len(text.encode()), num_characters=len(text), num_tokens=3 + index,
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
