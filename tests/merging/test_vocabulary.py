"""Models whose tokenizers differ in added tokens, and whose embeddings differ in padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from toy_models import ASK, family, model_of, save, spec, tensors
from transformers import AutoTokenizer

from micota.merging.merge import merge_models

EMBEDDINGS = "model.embed_tokens.weight"
HEAD = "lm_head.weight"


def tokenizer_of(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def with_tokens(folder: Path, *texts: str) -> list[int]:
    """Add tokens to the tokenizer of a folder; returns their ids."""
    tokenizer = tokenizer_of(folder)
    tokenizer.add_tokens([*texts], special_tokens=True)
    tokenizer.save_pretrained(folder)
    return [tokenizer.convert_tokens_to_ids(text) for text in texts]


def merge(models: list[Path], folder: Path, **changes: Any) -> dict[str, torch.Tensor]:
    folder.mkdir()
    base, *tuned = [(str(model), None) for model in models]
    merge_models(spec(**changes), base, tuned, folder, ASK)
    return tensors(folder)


@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_other_tokens_are_those_of_the_tuned_model(tmp_path: Path, tied: bool) -> None:
    """As of Qwen2.5 and R1-Distill-Qwen: one id is a turn's start in the one and the user's turn in the other."""
    models = family(tmp_path, "qwen2", tied)
    [first, same] = with_tokens(models[0], "<im_start>", "<both>")
    assert with_tokens(models[1], "<User>", "<both>", "<think>")[:2] == [first, same]
    with_tokens(models[2], "<im_start>", "<both>")
    think = same + 1
    plain = {"density": 0.5, "weight": 0.5}
    merged = merge(models[:2], tmp_path / "two", **plain)
    tuned = tensors(models[1])
    for name in (EMBEDDINGS,) if tied else (EMBEDDINGS, HEAD):
        assert torch.equal(merged[name][[first, think]], tuned[name][[first, think]])
        others = [row for row in range(300) if row not in (first, think)]
        assert not torch.equal(merged[name][others], tuned[name][others])
    assert tokenizer_of(tmp_path / "two").convert_tokens_to_ids("<User>") == first
    three = merge(models, tmp_path / "three", **plain, instruct_density=0.5, instruct_weight=0.5)
    assert torch.equal(three[EMBEDDINGS][[first, think]], tuned[EMBEDDINGS][[first, think]])


@pytest.mark.parametrize(("rows", "of_tuned"), [(290, 300), (310, 300), (300, 290)])
def test_padding_is_that_of_the_tuned_model(tmp_path: Path, rows: int, of_tuned: int) -> None:
    torch.manual_seed(0)
    sizes = (rows, of_tuned)
    base, tuned = (save(model_of("qwen2", False, vocab_size=size), tmp_path / f"m{i}") for i, size in enumerate(sizes))
    merged = merge([base, tuned], tmp_path / "out", method="linear", density=1.0, weight=0.25, rescale="none")
    first, second = tensors(base), tensors(tuned)
    shared = min(rows, of_tuned)
    for name in (EMBEDDINGS, HEAD):
        assert merged[name].shape[0] == of_tuned
        mean = 0.75 * first[name][:shared] + 0.25 * second[name][:shared]
        torch.testing.assert_close(merged[name][:shared], mean)
        assert torch.equal(merged[name][shared:], second[name][shared:])
