"""Low-rank adapters through peft: put into a model, saved, and merged into its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from micota.config import ConfigError, LoraConfig

ALL_LINEAR = "all-linear"


def adapt(model: Any, lora: LoraConfig) -> Any:
    """Freeze the model and put adapters into it, in place.

    Returns:
        peft's model around it.

    Raises:
        ConfigError: a target is no linear layer of the model.
    """
    import peft

    targets: Any = ALL_LINEAR if lora.targets == [ALL_LINEAR] else list(lora.targets)
    known = sorted({name.rsplit(".", 1)[-1] for name, _ in model.base_model.named_modules() if _is_linear(_)})
    unknown = [name for name in lora.targets if name not in (*known, ALL_LINEAR)]
    if unknown:
        raise ConfigError(f"sft.lora.targets={lora.targets}: {unknown[0]!r} is no linear layer; accepted: {known}")
    settings = peft.LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM"
    )
    return peft.get_peft_model(model, settings)


def _is_linear(module: Any) -> bool:
    return type(module).__name__ == "Linear"


def save_and_merge(adapted: Any, folder: Path) -> Any:
    """Write the adapter to ``folder`` and return the model with the adapter added to its weights."""
    adapted.save_pretrained(folder)
    return adapted.merge_and_unload()
