"""A trained or merged model -> a Hugging Face folder that transformers and vLLM load as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def export(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write weights, tokenizer with chat template, and the right eos into every file that names one."""
    eos = [tokenizer.eos_token_id]
    known = model.generation_config.eos_token_id
    eos += [
        token for token in (known if isinstance(known, list) else [known]) if token is not None and token not in eos
    ]
    model.generation_config.eos_token_id = eos if len(eos) > 1 else eos[0]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = model.generation_config.eos_token_id
    model.config.use_cache = True
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
