"""Weights that are not trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from micota.errors import ConfigError


def freeze(model: Any, patterns: Sequence[str]) -> None:
    """Freeze the weights of ``sft.freeze``, in place. A tied weight has several names, and one of them is enough.

    Raises:
        ConfigError: a pattern matches no weight, or no weight is left to train.
    """
    named = [*model.named_parameters(remove_duplicate=False)]
    for pattern in patterns:
        matching = [weight for name, weight in named if matches(pattern, name)]
        if not matching:
            raise ConfigError(
                f"sft.freeze={list(patterns)}: {pattern!r} matches no weight; accepted: modules or weights, as "
                f"{named[0][0]!r}, or regular expressions of full names of weights"
            )
        for weight in matching:
            weight.requires_grad_(False)
    if not any(weight.requires_grad for _, weight in named):
        raise ConfigError(f"sft.freeze={list(patterns)} leaves no weight to train; accepted: patterns of some weights")


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern of ``sft.freeze`` covers the weight of this full name."""
    return name == pattern or name.startswith(f"{pattern}.") or re.fullmatch(pattern, name) is not None
