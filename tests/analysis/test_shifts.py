from __future__ import annotations

import pytest

from micota.analysis.shifts import most_shifted, response_shifts, token_shifts
from micota.records import RankedResponse, TokenShift

ROWS = [
    RankedResponse(index=0, problem_id="a", sample=0, token_ids=[5, 7, 5, 9], ranks=[0, 2, 10, 0]),
    RankedResponse(index=1, problem_id="b", sample=1, token_ids=[5, 7], ranks=[3, 1]),
    RankedResponse(index=2, problem_id="c", sample=0, token_ids=[], ranks=[]),
]


def test_tokens_are_summed_over_all_their_uses() -> None:
    shifts = token_shifts(ROWS, lambda token: f"<{token}>")
    assert shifts == [
        TokenShift(token_id=5, text="<5>", count=3, num_unshifted=1, num_marginal=0, num_shifted=2,
                   mean_rank=pytest.approx(13 / 3), max_rank=10),
        TokenShift(token_id=7, text="<7>", count=2, num_unshifted=0, num_marginal=2, num_shifted=0,
                   mean_rank=1.5, max_rank=2),
        TokenShift(token_id=9, text="<9>", count=1, num_unshifted=1, num_marginal=0, num_shifted=0,
                   mean_rank=0.0, max_rank=0),
    ]  # fmt: skip
    assert shifts[0].share_shifted == pytest.approx(2 / 3)


def test_responses_without_tokens_have_no_mean() -> None:
    assert [(row.problem_id, row.num_tokens, row.num_shifted, row.mean_rank) for row in response_shifts(ROWS)] == [
        ("a", 4, 1, 3.0), ("b", 2, 1, 2.0),
    ]  # fmt: skip


def shift(token: int, count: int, num_shifted: int, mean_rank: float) -> TokenShift:
    return TokenShift(
        token_id=token, text=str(token), count=count, num_unshifted=count - num_shifted, num_marginal=0,
        num_shifted=num_shifted, mean_rank=mean_rank, max_rank=99,
    )  # fmt: skip


def test_most_shifted_by_mean_and_by_share_differ_and_rare_tokens_are_left_out() -> None:
    rows = [shift(1, 10, 1, 9.0), shift(2, 10, 9, 4.0), shift(3, 2, 2, 50.0), shift(4, 10, 0, 0.0)]
    assert [row.token_id for row in most_shifted(rows)] == [1, 2]
    assert [row.token_id for row in most_shifted(rows, "share_shifted")] == [2, 1]
    assert [row.token_id for row in most_shifted(rows, min_count=1, limit=1)] == [3]
    assert most_shifted([shift(5, 10, 0, 1.5)], "share_shifted") == [], "marginal alone is not shifted"
    with pytest.raises(ValueError, match="most shifted by 'max_rank'; accepted: mean_rank, share_shifted"):
        most_shifted(rows, "max_rank")
