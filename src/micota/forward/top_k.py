"""The most likely tokens of a model at each learnt token, with their log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from micota.forward.batches import batch_of
from micota.sft.divergences import events_of
from micota.sft.losses import chunked_logits
from micota.sft.packing import IGNORED, Tokens


@torch.inference_mode()
def most_likely(
    model: Any, sequences: Sequence[Tokens], top_k: int, temperature: float, vocabulary: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return for each sequence the log-probabilities of the ``top_k`` most likely tokens and of all others together
    (labels x (k + 1), float32), and the ids of these tokens (labels x k), on the CPU. The sequences are one batch.

    Logits exist for one chunk of labels at a time, and are divided by ``temperature``. ``vocabulary`` is the number of
    tokens that the tokenizer has: rows of the head beyond it are padding, and count with all others.
    """
    batch = batch_of(sequences, model.device)
    events = [events_of(logits / temperature, top_k, vocabulary) for logits, _ in chunked_logits(model, batch)]
    # chunked_logits orders labels row by row, and each row is a sequence.
    ends = (batch["labels"] != IGNORED).sum(dim=1).cumsum(dim=0).tolist()
    log_p = torch.cat([each.log_p for each in events]).cpu()
    ids = torch.cat([each.ids for each in events if each.ids is not None]).cpu()
    return [(log_p[start:stop], ids[start:stop]) for start, stop in pairwise([0, *ends])]
