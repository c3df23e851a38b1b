"""A trained or merged model -> a Hugging Face folder that transformers and vLLM load as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def export(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write weights, tokenizer with chat template, and the right eos into every file that names one."""
    settle(model.config, model.generation_config, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def export_settings(config: Any, generation_config: Any, tokenizer: Any, folder: Path) -> None:
    """Write all that ``export`` does but the weights."""
    settle(config, generation_config, tokenizer)
    config.save_pretrained(folder)
    generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def settle(config: Any, generation_config: Any, tokenizer: Any) -> None:
    """Make every place that names eos and padding name the tokenizer's."""
    eos = [tokenizer.eos_token_id]
    known = generation_config.eos_token_id
    eos += [
        token for token in (known if isinstance(known, list) else [known]) if token is not None and token not in eos
    ]
    generation_config.eos_token_id = eos if len(eos) > 1 else eos[0]
    generation_config.pad_token_id = tokenizer.pad_token_id
    config.eos_token_id = generation_config.eos_token_id
    config.use_cache = True
