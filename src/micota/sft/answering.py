"""A model that is trained generates answers in between, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from micota.sft import attention


@contextmanager
def answering(model: Any) -> Iterator[None]:
    """Within the block the model has an attention kernel with a key-value cache, which those of training lack."""
    kernel = model.config._attn_implementation
    model.set_attn_implementation("eager" if attention.is_capped(model.config) else "sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(kernel)
