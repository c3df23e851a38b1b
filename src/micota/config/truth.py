"""Truth values of configs: OmegaConf takes every whole number for one, so that ``plan=2`` would be true."""

from __future__ import annotations

from typing import Any

from omegaconf import BooleanNode
from omegaconf.errors import ValidationError

_convert = BooleanNode._validate_and_convert_impl


def _convert_words(self: BooleanNode, value: Any) -> bool:
    if isinstance(value, int) and value not in (0, 1):
        raise ValidationError("Value '$VALUE' is not true or false")
    return _convert(self, value)


BooleanNode._validate_and_convert_impl = _convert_words  # type: ignore[method-assign]
