"""Likelihood of a data set under a model, for the whole set and over its examples.

BPC (MiCoTA, arXiv 2507.01887, eq. 3) is -sum ln p(token) / ln 2 over the length of the text. Unlike the loss per token,
the length does not depend on the tokenizer. The paper divides by "characters" and counts UTF-8 bytes; both are here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from micota.records import BEYOND, SMALLEST_NLL, ExampleScore

QUANTILES = (10, 50, 90)  # percent


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """Likelihood of a data set: total bits (or nats) over total UTF-8 bytes or characters.

    Long completions dominate the totals. ``mean`` and the quantiles are over the bits per byte of each example, so all
    examples weigh the same.

    ``mean_rank`` (bounded) and ``surprisal`` (nats) are means over examples of an example's mean token.
    ``rank_surprisal_ratio`` is their quotient (RSR of a data set: Yang et al. 2026, arXiv 2601.14249, appendix A.8).
    ``share_beyond_k`` is the share of all tokens whose rank is beyond k.
    """

    bits_per_byte: float
    bits_per_character: float
    nats_per_byte: float
    mean: float
    p10: float
    p50: float
    p90: float
    num_tokens: float  # mean of a completion with eos
    mean_rank: float
    surprisal: float
    rank_surprisal_ratio: float
    share_beyond_1: float
    share_beyond_10: float
    share_beyond_100: float


def bits_of(rows: Sequence[ExampleScore]) -> Likelihood:
    """Return the likelihood of one data set of at least one row."""
    # Total over total, not the mean of ratios: it is the code length of the whole set, as for a compressor.
    nats = sum(row.nll_nats for row in rows)
    num_bytes = sum(row.num_bytes for row in rows)
    bits = np.array([row.bits_per_byte for row in rows])
    p10, p50, p90 = (float(value) for value in np.percentile(bits, QUANTILES))
    num_tokens = sum(row.num_tokens for row in rows)
    # The quotient of means, not the mean of quotients: one completion that is nearly certain would outweigh all others.
    mean_rank = float(np.mean([row.rank_sum / row.num_tokens for row in rows]))
    surprisal = float(np.mean([row.nll_nats / row.num_tokens for row in rows]))
    beyond = {f"share_beyond_{rank}": sum(row.num_beyond[str(rank)] for row in rows) / num_tokens for rank in BEYOND}
    return Likelihood(
        # 1 nat is 1 / ln 2 bits.
        bits_per_byte=nats / np.log(2) / num_bytes,
        bits_per_character=nats / np.log(2) / sum(row.num_characters for row in rows),
        nats_per_byte=nats / num_bytes,
        mean=float(bits.mean()),
        p10=p10,
        p50=p50,
        p90=p90,
        num_tokens=num_tokens / len(rows),
        mean_rank=mean_rank,
        surprisal=surprisal,
        rank_surprisal_ratio=mean_rank / max(surprisal, SMALLEST_NLL),
        **beyond,
    )
