"""What a model finds of completions, token by token: their likelihood and the ranks of their tokens, in one pass.

MiCoTA (arXiv 2507.01887) divides bits by "characters" and counts UTF-8 bytes; results have both counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from micota.forward.batches import batch_of
from micota.records import BEYOND
from micota.sft.losses import chunked_logits
from micota.sft.packing import IGNORED, Tokens


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Sums over the tokens of one completion with eos, given its prompt: negative log-likelihood in nats (float64),
    ranks (1: the most likely token, at most a bound each), and how many tokens are beyond each rank of ``BEYOND``."""

    nll_nats: float
    rank_sum: int
    num_beyond: dict[str, int]


@torch.inference_mode()
def completion_measures(model: Any, sequences: Sequence[Tokens], rank_clip: int) -> list[Measures]:
    """Measure each completion. The sequences are one batch.

    Logits are computed for completions only, one chunk at a time. The rank of a token is 1 and the number of tokens of
    the vocabulary with a strictly larger logit; ranks above ``rank_clip`` count as that.
    """
    batch = batch_of(sequences, model.device)
    parts = [_of_chunk(*chunk, rank_clip) for chunk in chunked_logits(model, batch)]
    # chunked_logits orders labelled positions row by row, as nonzero does.
    row_of = (batch["labels"] != IGNORED).nonzero()[:, 0]
    # In float64: index_add_ adds one term after the other, and in float32 the error would grow with the length.
    totals = torch.zeros(len(sequences), 2 + len(BEYOND), dtype=torch.double, device=row_of.device)
    if parts:
        totals.index_add_(0, row_of, torch.cat(parts))
    return [
        Measures(
            nll_nats=nll,
            rank_sum=int(rank_sum),
            num_beyond={str(rank): int(count) for rank, count in zip(BEYOND, beyond, strict=True)},
        )
        for nll, rank_sum, *beyond in totals.tolist()
    ]


def _of_chunk(logits: torch.Tensor, targets: torch.Tensor, rank_clip: int) -> torch.Tensor:
    """Negative log-likelihood, bounded rank and whether it is beyond each rank of ``BEYOND``: tokens x 5, float64."""
    nll = functional.cross_entropy(logits, targets, reduction="none")
    # Counting the larger logits costs one pass; a sort of the vocabulary at each token would cost many.
    ranks = 1 + (logits > logits.gather(1, targets[:, None])).sum(dim=1)
    beyond = [ranks > rank for rank in BEYOND]
    return torch.stack([nll.double(), ranks.clamp(max=rank_clip).double(), *(one.double() for one in beyond)], dim=1)
