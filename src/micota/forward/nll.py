"""Negative log-likelihood of completions under a model, for bits per character of training data.

MiCoTA (arXiv 2507.01887) divides bits by "characters" and counts UTF-8 bytes; results have both counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from micota.forward.batches import batch_of
from micota.sft.losses import token_nll
from micota.sft.packing import IGNORED, Tokens


@torch.inference_mode()
def completion_nll(model: Any, sequences: Sequence[Tokens]) -> list[float]:
    """Negative log-likelihood in nats of each completion with eos, given its prompt; summed in float64.

    The sequences are one batch. Logits are computed for completions only, one chunk at a time.
    """
    batch = batch_of(sequences, model.device)
    # In float64: index_add_ adds one term after the other, and in float32 the error would grow with the length.
    nll = token_nll(model, batch).double()
    # token_nll orders labelled positions row by row, as nonzero does.
    row_of = (batch["labels"] != IGNORED).nonzero()[:, 0]
    totals = torch.zeros(len(sequences), dtype=torch.double, device=nll.device).index_add_(0, row_of, nll)
    result: list[float] = totals.tolist()
    return result
