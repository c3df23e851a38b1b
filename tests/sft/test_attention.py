from __future__ import annotations

from typing import Any

import pytest
import torch
from packed_models import FAMILIES, model_of, sequences

from micota.errors import ConfigError
from micota.sft.attention import choose
from micota.sft.losses import softcap, summed_nll, supervised, token_nll
from micota.sft.packing import borders, collate


def loss_and_gradients(model: Any, capacity: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.zero_grad()
    batch = collate(sequences(), capacity)
    hidden, labels = supervised(model, batch, borders(batch["position_ids"]))
    loss = summed_nll(hidden, model.get_output_embeddings().weight, labels, len(labels), cap=softcap(model), rows=7)
    loss.backward()
    return loss.detach(), [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("kernel", ["sequences", "sdpa", "eager"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_packed_equals_unpacked(family: str, kernel: str) -> None:
    """Against the eager kernel of transformers with a row for each sequence, so that bounds and windows count too."""
    expected, expected_gradients = loss_and_gradients(
        model_of(family, "sdpa" if kernel == "sdpa" else "eager"), capacity=1
    )
    packed, gradients = loss_and_gradients(model_of(family, kernel), capacity=96)
    torch.testing.assert_close(packed, expected, rtol=1e-5, atol=1e-5)
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kernel", ["sequences", "eager"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_packed_logits_equal_those_of_the_plain_model(family: str, kernel: str) -> None:
    model, plain = model_of(family, kernel).eval(), model_of(family, "eager").eval()
    batch = collate(sequences(), 96)
    hidden, _ = supervised(model, batch, borders(batch["position_ids"]))
    cap = softcap(model)
    logits = model.get_output_embeddings()(hidden)
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    at = 0
    for row in _rows_of(batch):
        alone = plain(input_ids=row[None]).logits[0, 2:-1]  # from the last token of the prompt, num_prompt=3
        torch.testing.assert_close(logits[at : at + len(alone)], alone, rtol=1e-4, atol=1e-4)
        at += len(alone)
    assert at == len(logits)


def _rows_of(batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The sequences of a batch in the order in which they lie in it, padding left out."""
    lengths = borders(batch["position_ids"])["lengths"]
    pieces = zip(batch["input_ids"].flatten().split(lengths), batch["labels"].flatten().split(lengths), strict=True)
    return [ids for ids, labels in pieces if (labels != -100).any()]


def test_sdpa_would_leave_the_bound_out() -> None:
    """The reason to refuse sdpa for such a model: transformers does not warn."""
    batch = collate(sequences(), 1)
    nll = [token_nll(model_of("gemma2", kernel), batch).sum() for kernel in ("sdpa", "eager")]
    assert abs(float((nll[0] - nll[1]).detach())) > 1e-3


def test_the_choice() -> None:
    assert choose("auto", "cpu", FAMILIES["gemma2"]) == "sequences"
    assert choose("auto", "cuda", FAMILIES["qwen2"]) in ("flash_attn", "varlen")
    assert choose("auto", "cuda", FAMILIES["gemma2"]) in ("flash_attn", "flex")
    assert choose("sdpa", "cpu", FAMILIES["qwen2"]) == "sdpa"


@pytest.mark.parametrize(("wanted", "device", "family"), [
    ("sdpa", "cpu", "gemma2"), ("varlen", "cuda", "gemma2"), ("varlen", "cpu", "llama"),
    ("flex", "cpu", "llama"), ("flash_attn", "cpu", "llama"),
])  # fmt: skip
def test_a_kernel_that_does_not_fit_is_refused(wanted: str, device: str, family: str) -> None:
    with pytest.raises(ConfigError, match=f"trainer.attention='{wanted}'.*(accepted|auto)"):
        choose(wanted, device, FAMILIES[family])
