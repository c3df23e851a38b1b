"""Bits per character of training completions under a model: how well the model predicts what it is to learn.

MiCoTA (arXiv 2507.01887) divides bits by "characters" and counts UTF-8 bytes; both counts are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from micota.losses import token_nll
from micota.packing import IGNORED, Tokens, collate
from micota.records import Example, ExampleScore


@torch.inference_mode()
def example_scores(
    model: Any, examples: Sequence[Example], tokens: Sequence[Tokens], batch_size: int
) -> Iterator[ExampleScore]:
    """Negative log-likelihood of each completion with eos, given its prompt; logits of completions alone are built.

    Examples and their tokens must be aligned; results come in order of length, longest first.
    """
    order = sorted(range(len(tokens)), key=lambda index: (-len(tokens[index].ids), index))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        # A row each: capacity 1 packs nothing together.
        batch = collate([tokens[index] for index in chosen], capacity=1)
        batch = {name: values.to(model.device) for name, values in batch.items()}
        nll = token_nll(model, batch).double()
        row_of = (batch["labels"] != IGNORED).nonzero()[:, 0]
        totals = torch.zeros(len(chosen), dtype=torch.double, device=nll.device).index_add_(0, row_of, nll)
        for index, total in zip(chosen, totals.tolist(), strict=True):
            text = examples[index].completion
            yield ExampleScore(
                problem_id=examples[index].problem_id,
                source=examples[index].source,
                nll_nats=total,
                num_bytes=len(text.encode()),
                num_characters=len(text),
                num_tokens=len(tokens[index].ids) - tokens[index].num_prompt,
            )


def bits_per(scores: Iterable[ExampleScore], unit: str) -> float:
    """Total bits over total ``bytes`` or ``characters``."""
    rows = list(scores)
    amount = sum(row.num_bytes if unit == "bytes" else row.num_characters for row in rows)
    return sum(row.nll_nats for row in rows) / math.log(2) / amount
