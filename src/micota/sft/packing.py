"""Examples -> token ids with the prompt masked -> packed batches in which no sequence sees another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from micota.data.prompts import prefilled, render
from micota.errors import ConfigError
from micota.records import Example

IGNORED = -100  # label of positions without loss, as in torch.nn.functional.cross_entropy


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """One example: prompt + completion + eos; ``num_prompt`` leading ids carry no loss."""

    ids: list[int]
    num_prompt: int


def tokenise(tokenizer: Any, example: Example) -> Tokens:
    """The ids the model is to learn: the prompt as it is rendered for generation, the completion, and eos.

    The mask goes by span, never by token id, so that eos is learnt where it is the padding token too. A tag that the
    template opens in the prompt is not learnt a second time.

    Raises:
        ConfigError: the template opens a thought that the completion does not close.
    """
    rendered = render(tokenizer, example.messages)
    opened = prefilled(rendered)
    if opened and opened.strip().replace("<", "</") not in example.completion:
        raise ConfigError(
            f"the chat template opens a thought ({opened.strip()}) in the prompt, and the completion of problem "
            f"{example.problem_id!r} does not end one; accepted: data of a generator that thinks, with "
            "select.thinking=tagged, or a template that does not open one"
        )
    # Two calls, so that no token spans the border: at generation the prompt is tokenised by itself, too.
    # The template has written the special tokens already.
    prompt = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    completion = tokenizer(_unopened(example.completion, opened), add_special_tokens=False)["input_ids"]
    return Tokens(ids=[*prompt, *completion, tokenizer.eos_token_id], num_prompt=len(prompt))


def _unopened(completion: str, opened: str) -> str:
    """A completion without the opening tag that the prompt ends in, and without the white space that goes with it."""
    tag = opened.strip()
    if not tag or not completion.startswith(tag):
        return completion
    after = completion.removeprefix(tag)
    white = opened.removeprefix(tag)
    return after.removeprefix(white)


def fits(lengths: Sequence[int], max_tokens: int) -> list[int]:
    """Indices of what has at most ``max_tokens``. The rest is left out whole: a cut target has no answer and no end."""
    return [index for index, length in enumerate(lengths) if length <= max_tokens]


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing: indices of sequences per row, no row longer than ``capacity`` (or its one sequence)."""
    rows: list[list[int]] = []
    room: list[int] = []
    # Longest first; ties go by index, so that the same examples always give the same rows.
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        fitting = [row for row in range(len(rows)) if room[row] >= lengths[index]]
        if fitting:
            # The fullest row that has room (best fit), which leaves the large gaps for later.
            best = min(fitting, key=lambda row: room[row])
            rows[best].append(index)
            room[best] -= lengths[index]
        else:
            rows.append([index])
            room.append(capacity - lengths[index])
    return rows


Batch = dict[str, torch.Tensor]


def collate(sequences: Sequence[Tokens], capacity: int) -> Batch:
    """Pack sequences into one batch of rows; see :func:`lay_out`."""
    return lay_out(sequences, pack([len(tokens.ids) for tokens in sequences], capacity))


def lay_out(sequences: Sequence[Tokens], rows: Sequence[Sequence[int]]) -> Batch:
    """Write the sequences that ``rows`` name one after the other.

    Returns:
        ``input_ids``, ``position_ids`` (restarting at 0 in each sequence: models attend within it alone) and ``labels``
        (next-token targets, aligned with the position that predicts them), each rows x longest row.
    """
    width = max(sum(len(sequences[index].ids) for index in row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED, dtype=torch.long)
    # The padding at the end of a row is a sequence of its own, so that nothing attends to it.
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        start = 0
        for index in row:
            tokens = sequences[index]
            length = len(tokens.ids)
            span = torch.tensor(tokens.ids)
            ids[number, start : start + length] = span
            positions[number, start : start + length] = torch.arange(length)
            # Position t predicts token t + 1: the last prompt token predicts the first of the completion, eos nothing.
            labels[number, start + tokens.num_prompt - 1 : start + length - 1] = span[tokens.num_prompt :]
            start += length
        positions[number, start:] = torch.arange(width - start)
    return {"input_ids": ids, "position_ids": positions, "labels": labels}


def micro_batches(sequences: Sequence[Tokens], capacity: int, micro_batch_rows: int) -> list[Batch]:
    """Pack sequences into rows, and these into batches of at most ``micro_batch_rows`` rows."""
    rows = pack([len(tokens.ids) for tokens in sequences], capacity)
    return [
        lay_out(sequences, rows[start : start + micro_batch_rows]) for start in range(0, len(rows), micro_batch_rows)
    ]


def borders(position_ids: torch.Tensor) -> dict[str, Any]:
    """Where sequences begin and end in rows laid end to end, named as transformers hands it to attention kernels.

    Args:
        position_ids: rows x width, 0 where a sequence begins (the padding of a row is a sequence of its own).
    """
    flat = position_ids.flatten()
    # Positions restart at 0 in every sequence, and rows begin with one: no sequence runs over the end of a row.
    starts = (flat == 0).nonzero()[:, 0]
    ends = torch.cat([starts, starts.new_tensor([len(flat)])])
    lengths = ends.diff().tolist()
    edges = ends.to(torch.int32)  # what FlashAttention's kernels take: 0, then the end of each sequence
    longest = max(lengths)
    return {
        "lengths": lengths,
        "cu_seq_lens_q": edges,
        "cu_seq_lens_k": edges,
        "max_length_q": longest,
        "max_length_k": longest,
    }
