"""Token shifts: the ranks, before tuning, of the tokens that a tuned model generates, by token and by response.

After Mix Distillation (arXiv 2502.12143, figure 8). The shift of a token is its rank before tuning minus its rank
after. The rank after is 0 in greedy answers, so the rank before is the shift.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from micota.records import RankedResponse, TokenShift

NUM_MARGINAL = 3  # ranks 1 and 2 are marginal, lower ones shifted (Lin et al. 2023, arXiv 2312.01552)
KINDS = ("unshifted", "marginal", "shifted")
MEASURES = ("mean_rank", "share_shifted")


@dataclass(frozen=True, kw_only=True)
class ResponseShift:
    """One response: the number of its shifted tokens, and the mean of all ranks before tuning."""

    problem_id: str
    sample: int
    num_tokens: int
    num_shifted: int
    mean_rank: float


def token_shifts(rows: Sequence[RankedResponse], text_of: Callable[[int], str]) -> list[TokenShift]:
    """Return all tokens of the responses, the most frequent first; ``text_of`` decodes a token id."""
    ids = np.array([token for row in rows for token in row.token_ids], dtype=np.int64)
    ranks = np.array([rank for row in rows for rank in row.ranks], dtype=np.int64)
    tokens, index_of = np.unique(ids, return_inverse=True)

    def counts(chosen: np.ndarray) -> list[int]:
        by_token: list[int] = np.bincount(index_of[chosen], minlength=len(tokens)).tolist()
        return by_token

    # The rank of the token under the untuned model, 0 for its most likely one: unshifted at 0, marginal at 1 and 2,
    # shifted from 3 on (the 1st, the 2nd and 3rd, and the rest in arXiv 2312.01552).
    top, middle = ranks == 0, (ranks > 0) & (ranks < NUM_MARGINAL)
    total, unshifted, marginal = counts(np.ones(len(ids), dtype=bool)), counts(top), counts(middle)
    # One pass over all tokens for each column: bincount sums by token, maximum.at takes maxima by token.
    sums = np.bincount(index_of, weights=ranks, minlength=len(tokens))
    highest = np.zeros(len(tokens), dtype=np.int64)
    np.maximum.at(highest, index_of, ranks)
    shifts = [
        TokenShift(
            token_id=int(token),
            text=text_of(int(token)),
            count=total[number],
            num_unshifted=unshifted[number],
            num_marginal=marginal[number],
            num_shifted=total[number] - unshifted[number] - marginal[number],
            mean_rank=float(sums[number]) / total[number],
            max_rank=int(highest[number]),
        )
        for number, token in enumerate(tokens)
    ]
    return sorted(shifts, key=lambda row: (-row.count, row.token_id))


def most_shifted(
    rows: Sequence[TokenShift], by: str = "mean_rank", *, min_count: int = 5, limit: int = 20
) -> list[TokenShift]:
    """Return the tokens with the largest mean shift (``mean_rank``) or share of shifted uses (``share_shifted``).

    Tokens with fewer than ``min_count`` uses are left out. Among equals the more frequent token comes first.

    Raises:
        ValueError: ``by`` is neither.
    """
    if by not in MEASURES:
        raise ValueError(f"most shifted by {by!r}; accepted: {', '.join(MEASURES)}")
    # A token with one or two uses can have any rank, and such means would fill the list.
    frequent = [row for row in rows if row.count >= min_count and getattr(row, by) > 0]
    return sorted(frequent, key=lambda row: (-getattr(row, by), -row.count, row.token_id))[:limit]


def response_shifts(rows: Sequence[RankedResponse]) -> list[ResponseShift]:
    """Return the shift of every response that has at least one token."""
    return [
        ResponseShift(
            problem_id=row.problem_id,
            sample=row.sample,
            num_tokens=len(row.ranks),
            num_shifted=sum(rank >= NUM_MARGINAL for rank in row.ranks),
            mean_rank=sum(row.ranks) / len(row.ranks),
        )
        for row in rows
        if row.ranks
    ]
