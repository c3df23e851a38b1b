"""Random models of the families that are trained, and sequences to pack, for the tests of training."""

from __future__ import annotations

import random
from typing import Any

import torch
from transformers import Gemma2Config, LlamaConfig, Qwen2Config
from transformers.models.auto import AutoModelForCausalLM

from micota.sft.activation_checkpointing import ActivationCheckpointing
from micota.sft.attention import implementation
from micota.sft.losses import softcap, summed_nll, supervised
from micota.sft.packing import Tokens, borders, collate

SHAPE = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 256, "pad_token_id": 0,
}  # fmt: skip
FAMILIES: dict[str, Any] = {
    "qwen2": Qwen2Config(**SHAPE),
    "llama": LlamaConfig(**SHAPE),
    # Small bounds and a window shorter than the sequences, so that leaving them out would show.
    "gemma2": Gemma2Config(**SHAPE, attn_logit_softcapping=0.5, final_logit_softcapping=0.5, sliding_window=8),
}


def sequences(count: int = 9) -> list[Tokens]:
    generator = random.Random(0)
    return [
        Tokens(ids=[generator.randrange(2, 64) for _ in range(generator.randrange(6, 40))], num_prompt=3)
        for _ in range(count)
    ]


def model_of(family: str, kernel: str) -> Any:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(FAMILIES[family], attn_implementation=implementation(kernel))
    with torch.no_grad():
        for parameter in model.parameters():  # scores large enough to meet the bound
            parameter.mul_(4)
    return model.train()


def learn(model: Any, kind: str = "none") -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
    """Loss and gradients of one batch, and how many bytes are kept between the forward and the backward pass."""
    batch, kept = collate(sequences(), 96), {}
    ActivationCheckpointing(model, {kind: 96})(batch["input_ids"].numel())

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden, labels = supervised(model, batch, borders(batch["position_ids"]))
        head = model.get_output_embeddings().weight
        loss = summed_nll(hidden, head, labels, len(labels), cap=softcap(model))
    loss.backward()
    grads = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return loss.detach(), grads, sum(kept.values())
