"""Batched ranks against brute force: one answer at a time, all logits, each position sorted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toy_models import model_of

from micota.forward.batches import batches
from micota.forward.token_ranks import token_ranks
from micota.sft.packing import Tokens


def brute_force(model: Any, tokens: Tokens) -> list[int]:
    """The index of each token in the sorted logits of its position; of equal logits the first index."""
    with torch.no_grad():
        logits = model(torch.tensor([tokens.ids])).logits[0]
    indices = []
    for position in range(tokens.num_prompt, len(tokens.ids)):
        row = logits[position - 1].tolist()
        indices.append(sorted(row, reverse=True).index(row[tokens.ids[position]]))
    return indices


def random_sequences(lengths: list[int]) -> list[Tokens]:
    torch.manual_seed(0)
    return [
        Tokens(ids=torch.randint(2, 300, (length,)).tolist(), num_prompt=1 + number % 3)
        for number, length in enumerate(lengths)
    ]


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "gemma2"])
@pytest.mark.parametrize("max_tokens", [1, 64, 1000])
def test_equals_brute_force(architecture: str, max_tokens: int) -> None:
    sequences = random_sequences([6, 40, 17, 17, 4, 29])
    model = model_of(architecture, tied=True).eval()
    ranks_of: dict[int, list[int]] = {}
    for batch in batches([len(tokens.ids) for tokens in sequences], max_tokens):
        ranks_of |= zip(batch, token_ranks(model, [sequences[index] for index in batch]), strict=True)
    expected = [brute_force(model, tokens) for tokens in sequences]
    assert [ranks_of[index] for index in range(len(sequences))] == expected
    assert len({rank for ranks in expected for rank in ranks}) > 40, "too few ranks for a test"


def test_tokens_with_equal_logits_share_the_better_rank() -> None:
    [tokens] = random_sequences([24])
    model = model_of("llama", tied=False).eval()
    weight = model.get_output_embeddings().weight
    with torch.no_grad():
        weight.copy_(weight[torch.arange(300) // 100])  # three groups of a hundred equal tokens
    [ranks] = token_ranks(model, [tokens])
    assert ranks == brute_force(model, tokens)
    assert set(ranks) == {0, 100, 200}


def test_an_answer_without_tokens_has_no_ranks() -> None:
    model = model_of("llama", tied=True).eval()
    empty, other = Tokens(ids=[5, 6, 7], num_prompt=3), Tokens(ids=[5, 6, 7, 8], num_prompt=3)
    assert token_ranks(model, [empty]) == [[]]
    assert token_ranks(model, [empty, other]) == [[], brute_force(model, other)]
