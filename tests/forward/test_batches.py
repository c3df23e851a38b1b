from __future__ import annotations

import torch

from micota.forward.batches import batch_of, batches
from micota.sft.packing import IGNORED, Tokens


def test_batches_hold_every_sequence_once_and_few_cells() -> None:
    lengths = [3, 9, 1, 4, 4, 30, 2, 8]
    result = batches(lengths, 18)
    assert sorted(index for batch in result for index in batch) == list(range(len(lengths)))
    assert result == [[5], [1, 7], [3, 4, 0, 6], [2]]
    for batch in result:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= 18


def test_a_sequence_longer_than_a_batch_is_a_batch() -> None:
    assert batches([5, 50], 10) == [[1], [0]]
    assert batches([], 10) == []


def test_no_batch_has_lengths_on_both_sides_of_a_border() -> None:
    lengths = [5, 12, 11, 10, 9, 2]
    assert batches(lengths, 100) == [[1, 2, 3, 4, 0, 5]]
    assert batches(lengths, 100, border=10) == [[1, 2], [3, 4, 0, 5]]


def test_one_sequence_a_row_with_the_prompt_and_the_padding_unlabelled() -> None:
    batch = batch_of([Tokens(ids=[7, 8, 9], num_prompt=1), Tokens(ids=[5, 6], num_prompt=1)], torch.device("cpu"))
    assert batch["input_ids"].tolist() == [[7, 8, 9], [5, 6, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2], [0, 1, 2]]
    assert batch["labels"].tolist() == [[8, 9, IGNORED], [6, IGNORED, IGNORED]]
