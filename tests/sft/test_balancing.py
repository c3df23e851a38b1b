from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import packing as benchmark
import pytest
from fork_server import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from micota.config import SftConfig, TrainerConfig
from micota.sft.balancing import balance, computed_tokens
from micota.sft.data import SftDataModule, Steps
from micota.sft.packing import IGNORED, Tokens, pack


@given(
    st.lists(st.integers(1, 120), min_size=1, max_size=40), st.integers(1, 100), st.integers(1, 4), st.integers(1, 9)
)
@settings(max_examples=150, deadline=None)
def test_rows_over_rounds_and_ranks(lengths: list[int], capacity: int, micro_batch_rows: int, num_ranks: int) -> None:
    rounds = balance(lengths, capacity, micro_batch_rows, num_ranks)
    rows = [row for ranks in rounds for rank in ranks for row in rank]
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(row for row in rows), "an empty row has no width"
    # A longer sequence takes a row of its length, which others may share up to that length at most.
    longest = max(capacity, *lengths)
    assert all(sum(lengths[index] for index in row) <= longest for row in rows)
    assert all(len(ranks) == num_ranks and all(len(rank) <= micro_batch_rows for rank in ranks) for ranks in rounds)
    packed = pack(lengths, capacity)
    assert len(rounds) <= -(-len(packed) // (num_ranks * micro_batch_rows)), "a round costs a gather of all layers"
    sizes = [max(len(rank) * sum(lengths[i] for i in rank[0]) for rank in ranks if rank) for ranks in rounds]
    assert sizes == sorted(sizes, reverse=True) and sum(sizes) == computed_tokens(rounds, lengths)
    assert sizes and sum(sizes) * num_ranks >= sum(lengths)


def test_no_step_computes_more_than_with_full_rows_in_turn() -> None:
    chance = random.Random(0)
    for num_ranks in (1, 2, 3, 8):
        for _ in range(30):
            lengths = [chance.randint(1, 100) for _ in range(chance.randint(1, 40))]
            former = benchmark.in_turn(lengths, 100, num_ranks)
            assert computed_tokens(balance(lengths, 100, 1, num_ranks), lengths) <= former


@pytest.mark.parametrize(("num_ranks", "batch", "before", "after"), [(8, 32, 0.72, 0.94), (4, 8, 0.62, 0.84)])
def test_most_of_the_work_is_useful(num_ranks: int, batch: int, before: float, after: float) -> None:
    [former, balanced] = benchmark.useful_shares(benchmark.LENGTHS["long"], batch, num_ranks, 16384, 40)
    assert former < before < after < balanced


def test_ranks_compute_the_examples_of_the_step_with_their_labels() -> None:
    """The same examples and labels on any number of ranks: the loss is a sum over labels divided by their number."""
    chance = random.Random(1)
    sequences = [Tokens(ids=[index + 5] * chance.randint(3, 30), num_prompt=2) for index in range(24)]
    trainer = TrainerConfig(name="cpu", accelerator="cpu", precision="32-true", pack_length=40, micro_batch_rows=2)
    data = SftDataModule(sequences, SftConfig(learning_rate=1e-3, batch_size=12, epochs=1), trainer, seed=0)

    def labels(num_ranks: int, step: int) -> list[int]:
        shares = [Steps(sequences, data.steps, trainer, 0, (rank, num_ranks))[step] for rank in range(num_ranks)]
        assert len({len(share.micro_batches) for share in shares}) == 1
        assert len({share.num_supervised for share in shares}) == 1
        pieces = [batch["labels"].flatten() for share in shares for batch in share.micro_batches]
        return sorted(int(label) for piece in pieces for label in piece if label != IGNORED)

    for step in range(2):
        assert len({tuple(labels(num_ranks, step)) for num_ranks in (1, 2, 3, 5)}) == 1


def test_rows_do_not_depend_on_the_process() -> None:
    """Each rank divides a step by itself, so all must come to the same rows."""
    program = """
from micota.sft.balancing import balance
lengths = [(7 * n * n + 3 * n) % 97 + 1 for n in range(50)]
print(balance(lengths, 100, 1, 4))
"""
    lengths = [(7 * n * n + 3 * n) % 97 + 1 for n in range(50)]
    finished: Any = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == str(balance(lengths, 100, 1, 4))
