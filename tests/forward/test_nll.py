"""Batched likelihoods against a slow reference: one example at a time, all logits, float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toy_models import model_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from micota.config import SourceConfig
from micota.data.prompts import messages
from micota.data.sources import load_problems, model_folder
from micota.forward.batches import batches
from micota.forward.nll import Measures, completion_measures
from micota.graph import Prompt
from micota.records import Example
from micota.sft.packing import Tokens, tokenise

CLIP = 20


def reference(model: Any, tokens: Tokens) -> Measures:
    """In float64, from the full logits of one example, token by token: the ranks by a sort of the vocabulary."""
    with torch.no_grad():
        logits = model.double()(torch.tensor([tokens.ids])).logits[0]
    total, ranks = 0.0, []
    for position in range(tokens.num_prompt, len(tokens.ids)):
        row, own = logits[position - 1], tokens.ids[position]
        total += float(torch.logsumexp(row, 0) - row[own])
        ranks.append(1 + row.argsort(descending=True).tolist().index(own))
    model.float()
    beyond = {str(rank): sum(one > rank for one in ranks) for rank in (1, 10, 100)}
    return Measures(nll_nats=total, rank_sum=sum(min(one, CLIP) for one in ranks), num_beyond=beyond)


def assert_equal(found: list[Measures], expected: list[Measures]) -> None:
    assert [one.nll_nats for one in found] == pytest.approx([one.nll_nats for one in expected], rel=1e-5)
    assert [one.rank_sum for one in found] == [one.rank_sum for one in expected]
    assert [one.num_beyond for one in found] == [one.num_beyond for one in expected]


def batched(model: Any, sequences: list[Tokens], max_tokens: int) -> list[Measures]:
    found: dict[int, Measures] = {}
    for batch in batches([len(tokens.ids) for tokens in sequences], max_tokens):
        found |= zip(batch, completion_measures(model, [sequences[index] for index in batch], CLIP), strict=True)
    return [found[index] for index in range(len(sequences))]


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "gemma2"])  # gemma2: bounded logits, sliding windows
@pytest.mark.parametrize("max_tokens", [1, 64, 1000])
def test_equals_the_slow_reference_in_float64(architecture: str, max_tokens: int) -> None:
    torch.manual_seed(0)
    model = model_of(architecture, tied=True).eval()
    lengths = [5, 40, 17, 17, 3, 29, 8]
    sequences = [
        Tokens(ids=torch.randint(2, 300, (length,)).tolist(), num_prompt=1 + number % 2)
        for number, length in enumerate(lengths)
    ]
    expected = [reference(model, tokens) for tokens in sequences]
    assert_equal(batched(model, sequences, max_tokens), expected)


def test_equals_the_reference_on_the_bundled_student() -> None:
    folder = model_folder("bundled:student")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    problems = load_problems(SourceConfig(path="bundled:train.jsonl", limit=6))
    prompt = Prompt(template="{problem}", system=None)
    sequences = [
        tokenise(tokenizer, Example(problem_id=problem.id, messages=messages(problem.problem, prompt),
                                    completion=f"Wait, 7*8=56, so 6.\n\\boxed{{{problem.answer}}}" * (1 + number),
                                    num_tokens=0, source="test"))
        for number, problem in enumerate(problems)
    ]  # fmt: skip
    expected = [reference(model, tokens) for tokens in sequences]
    found = batched(model, sequences, 256)
    assert_equal(found, expected)
    assert len({one.nll_nats for one in found}) == len(sequences)
