"""The rank of each token of a tuned model's answers under the model before tuning (arXiv 2502.12143, figure 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from micota.forward.batches import batch_of
from micota.sft.losses import chunked_logits
from micota.sft.packing import IGNORED, Tokens


@torch.inference_mode()
def token_ranks(model: Any, sequences: Sequence[Tokens]) -> list[list[int]]:
    """The rank of each token after the prompt: the number of tokens of the vocabulary with a strictly larger logit.

    Rank 0 is the most likely token, and tokens with equal logits share the better rank. The sequences are one batch.
    Nothing is sorted, and logits are computed one chunk at a time.
    """
    batch = batch_of(sequences, model.device)
    # Counting the larger logits costs one pass; a sort of the vocabulary at each token would cost many.
    pieces = [
        (logits > logits.gather(1, targets[:, None])).sum(dim=1) for logits, targets in chunked_logits(model, batch)
    ]
    # Split the concatenated ranks by sequence, by the number of labels of each row.
    counts = (batch["labels"] != IGNORED).sum(dim=1).tolist()
    ranks = torch.cat(pieces).tolist() if pieces else []
    ends = [sum(counts[: row + 1]) for row in range(len(counts))]
    return [ranks[end - count : end] for count, end in zip(counts, ends, strict=True)]
