"""Miniature models of several architectures, with a tokenizer, for the tests of merging."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma2Config, LlamaConfig, Qwen2Config

from micota.checkpoint import Checkpoint
from micota.data.sources import model_folder
from micota.export import export
from micota.graph import MergeSpec

ASK = [{"role": "user", "content": "3 + 4"}]
CONFIGS = {"qwen2": Qwen2Config, "llama": LlamaConfig, "gemma2": Gemma2Config}
SPEC = MergeSpec(
    method="dare_ties", density=0.5, weight=0.5, instruct_density=None, instruct_weight=None, rescale="dare",
    normalize=False, epsilon=0.0, gamma=0.0, dtype="float32", seed=0,
)  # fmt: skip


def spec(method: str = "dare_ties", **changes: Any) -> MergeSpec:
    return replace(SPEC, method=method, **changes)


def model_of(architecture: str, tied: bool, **changes: Any) -> Any:
    """A random model of three layers, in float32, with a vocabulary larger than its tokenizer's."""
    sizes = {
        "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 128,
        "tie_word_embeddings": tied, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
    }  # fmt: skip
    return AutoModelForCausalLM.from_config(CONFIGS[architecture](**sizes | changes), dtype=torch.float32)


def save(model: Any, folder: Path) -> Path:
    """With the tokenizer of the bundled TA, whose words are few."""
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    export(model, tokenizer, folder)
    return folder


def family(folder: Path, architecture: str, tied: bool, count: int = 3) -> list[Path]:
    """A model and others moved from it at random: base, fine-tuned, instruct."""
    torch.manual_seed(0)
    model = model_of(architecture, tied)
    start = {name: values.clone() for name, values in model.state_dict().items()}
    found = []
    for number in range(count):
        with torch.no_grad():
            for name, values in model.named_parameters():
                values.copy_(start[name] + (0.01 * torch.randn_like(values) if number else 0))
        found.append(save(model, folder / f"{architecture}-{tied}-{number}"))
    return found


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint as they are on disk."""
    with Checkpoint.open(folder) as checkpoint:
        return {
            name: checkpoint.read(name, 0, entry.num_elements).view(entry.shape)
            for name, entry in checkpoint.entries.items()
        }
