from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, Gemma2Config, LlamaConfig, Qwen2Config
from transformers.models.auto import AutoModelForCausalLM

from micota.packing import IGNORED, Tokens, collate, fits, micro_batches, pack, token_nll, tokenise
from micota.records import Example
from micota.sources import model_folder

SHAPE = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 256, "pad_token_id": 0,
}  # fmt: skip


def sequences(count: int = 9) -> list[Tokens]:
    generator = random.Random(0)
    return [
        Tokens(ids=[generator.randrange(2, 64) for _ in range(generator.randrange(6, 40))], num_prompt=3)
        for _ in range(count)
    ]


def test_the_target_ends_in_eos_and_the_prompt_is_that_of_generation() -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    example = Example(
        problem_id="1",
        messages=[{"role": "user", "content": "Ana has 9 pens:+3 mod 10?"}],
        completion="9+3=2.\n\\boxed{2}",
        num_tokens=0,
        source="short",
    )
    tokens = tokenise(tokenizer, example)
    assert tokenizer.decode(tokens.ids[: tokens.num_prompt]) == "Ana has 9 pens:+3 mod 10?\n"
    assert tokenizer.decode(tokens.ids[tokens.num_prompt :]) == "9+3=2.\n\\boxed{2}<eos>"
    chat = [*example.messages, {"role": "assistant", "content": example.completion}]
    assert tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False) == tokens.ids


def test_what_is_too_long_is_left_out_whole() -> None:
    long, short = Tokens(ids=[1] * 10, num_prompt=1), Tokens(ids=[1] * 4, num_prompt=1)
    assert fits([long, short], 4) == [short]


def test_pack_is_a_partition_within_capacity() -> None:
    lengths = [len(tokens.ids) for tokens in sequences(50)]
    rows = pack(lengths, 64)
    assert sorted(index for row in rows for index in row) == list(range(50))
    assert all(sum(lengths[index] for index in row) <= 64 for row in rows)
    assert len(rows) <= 1.25 * sum(lengths) / 64


def test_labels_are_the_completion_and_eos_alone() -> None:
    batch = collate([Tokens(ids=[5, 6, 7, 8, 1], num_prompt=2)], 8)
    assert batch["labels"].tolist() == [[IGNORED, 7, 8, 1, IGNORED]]


def test_eos_is_learnt_where_it_is_the_padding_too() -> None:
    batch = collate([Tokens(ids=[5, 0], num_prompt=1), Tokens(ids=[5, 6, 7, 0], num_prompt=1)], 1)
    assert (batch["labels"] == 0).sum() == 2


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", [Qwen2Config, LlamaConfig, Gemma2Config], ids=lambda f: f.__name__)
def test_packed_equals_unpacked(family: Any, attention: str) -> None:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(family(**SHAPE), attn_implementation=attention)
    model.train()
    results = []
    for capacity in (1, 96):
        model.zero_grad()
        batch = collate(sequences(), capacity)
        nll = token_nll(model, batch).sum()
        nll.backward()
        results.append((nll.detach(), [parameter.grad.clone() for parameter in model.parameters()]))
    (alone, grads_alone), (packed, grads_packed) = results
    torch.testing.assert_close(packed, alone, rtol=1e-6, atol=1e-4)
    for ours, theirs in zip(grads_packed, grads_alone, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_nll_equals_that_of_the_plain_model() -> None:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE))
    tokens = sequences(1)[0]
    ids = torch.tensor([tokens.ids])
    labels = ids.clone()
    labels[:, : tokens.num_prompt] = IGNORED
    expected = model(input_ids=ids, labels=labels).loss
    torch.testing.assert_close(token_nll(model, collate([tokens], 64)).mean(), expected)


def test_micro_batches_are_the_batch_in_pieces() -> None:
    batch = collate(sequences(), 1)
    pieces = list(micro_batches(batch, 4))
    assert [len(piece["input_ids"]) for piece in pieces] == [4, 4, 1]
    torch.testing.assert_close(torch.cat([piece["labels"] for piece in pieces]), batch["labels"])
