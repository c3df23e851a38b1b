"""Sequences -> batches for a model that only reads them: alike in length, so that hardly a cell is padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from micota.sft.packing import Batch, Tokens, lay_out


def batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices by length, longest first, in batches of at most ``max_tokens`` cells with padding (or of one row)."""
    found: list[list[int]] = []
    width = 0
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        # The first of a batch is its longest, and all others are padded to it.
        if found and width * (len(found[-1]) + 1) <= max_tokens:
            found[-1].append(index)
        else:
            found.append([index])
            width = lengths[index]
    return found


def batch_of(sequences: Sequence[Tokens], device: torch.device) -> Batch:
    """One sequence a row.

    Padding stands after what is attended to, so that positions need not restart there: transformers then takes the row
    for one sequence and builds no mask, which sequences packed together would need.
    """
    batch = lay_out(sequences, [[row] for row in range(len(sequences))])
    batch["position_ids"] = torch.arange(batch["input_ids"].shape[1]).expand_as(batch["input_ids"])
    return {name: values.to(device) for name, values in batch.items()}
