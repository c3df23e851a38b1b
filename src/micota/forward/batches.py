"""Sequences -> batches for a forward pass, of similar lengths, so that few positions are padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from micota.sft.packing import Batch, Tokens, lay_out


def batches(lengths: Sequence[int], max_tokens: int, border: int | None = None) -> list[list[int]]:
    """Indices by length, longest first, in batches of at most ``max_tokens`` positions with padding (or of one row).

    Args:
        border: of :func:`micota.pretrained.rope_border`: no batch has lengths on both sides of it.
    """
    result: list[list[int]] = []
    width = 0
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        crosses = border is not None and lengths[index] <= border < width
        # The first of a batch is its longest, and all others are padded to it.
        if result and not crosses and width * (len(result[-1]) + 1) <= max_tokens:
            result[-1].append(index)
        else:
            result.append([index])
            width = lengths[index]
    return result


def batch_of(sequences: Sequence[Tokens], device: torch.device) -> Batch:
    """A batch with one sequence per row.

    Padding follows the sequence, so that positions need not restart there. transformers then treats the row as one
    sequence and builds no mask, which packed sequences would need.
    """
    batch = lay_out(sequences, [[row] for row in range(len(sequences))])
    batch["position_ids"] = torch.arange(batch["input_ids"].shape[1]).expand_as(batch["input_ids"])
    return {name: values.to(device) for name, values in batch.items()}
