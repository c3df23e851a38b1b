"""LoRA adapters of peft with random weights, for comparisons with peft's own merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM


def random_adapter(base: Path, folder: Path, **settings: Any) -> Any:
    """Write an adapter to ``folder``, and return peft's model with it. ``settings`` are those of ``LoraConfig``."""
    from peft import LoraConfig, get_peft_model

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    wrapped: Any = get_peft_model(
        model, LoraConfig(**{"r": 4, "lora_alpha": 10, "target_modules": ["q_proj"]} | settings)
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for values in wrapped.parameters():
            if values.requires_grad:
                values.add_(0.1 * torch.randn_like(values))
    wrapped.save_pretrained(folder)
    return wrapped
