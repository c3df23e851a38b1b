"""The settings of a merge for one tensor: gradients over layers and values by module, as in mergekit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from micota.errors import ConfigError
from micota.graph import MergeSpec
from micota.merging.masks import Key, mask_key

_LAYER = re.compile(r"\.layers\.(\d+)\.")


@dataclass(frozen=True)
class Share:
    """Weight and density of one fine-tuned model in one tensor; ``key`` seeds its mask."""

    weight: float
    density: float
    key: Key


def shares(spec: MergeSpec, num_models: int, tensor: str, depth: float) -> list[Share]:
    """The shares of the model after SFT and, where there is one, of the model before it, in one tensor."""
    settings = [(spec.weight, spec.density), (spec.instruct_weight, spec.instruct_density)]
    result = []
    for model, (weight, density) in enumerate(settings[:num_models]):
        share = Share(
            weight=value_at(weight, tensor, depth),
            density=value_at(density, tensor, depth),
            # By the model's number and the tensor's name: with one mask, two models would drop the same elements.
            key=mask_key(spec.seed, model, tensor),
        )
        result.append(share)
    return result


def value_at(setting: Any, tensor: str, depth: float) -> float:
    """The value for a tensor at ``depth`` (0 the first layer, 1 the last).

    Args:
        setting: a number; or a list of numbers, spread evenly over the layers and interpolated linearly; or a list of
            ``{filter, value}``, of which the first counts whose filter is missing or part of the tensor's name.

    Raises:
        ConfigError: no filter fits the tensor.
    """
    if not isinstance(setting, list):
        return float(setting)
    if not isinstance(setting[0], dict):
        # Piecewise linear between values at equal distances, as a gradient in mergekit.
        position = depth * (len(setting) - 1)
        left = min(int(position), len(setting) - 1)
        right = min(left + 1, len(setting) - 1)
        return float((1 - (position - left)) * setting[left] + (position - left) * setting[right])
    for item in setting:
        wanted = item.get("filter")
        if wanted in (None, "*") or wanted in tensor:
            return value_at(item["value"], tensor, depth)
    raise ConfigError(f"no filter of {setting} fits {tensor}; end the list with a value that has no filter")


def depths(tensors: Iterable[str]) -> dict[str, float]:
    """The depth of each tensor, from 0 (the first layer) to 1 (the last); 0 for a tensor outside the layers."""
    layers = {name: int(match.group(1)) for name in tensors if (match := _LAYER.search(name))}
    last = max(layers.values(), default=0)
    return {name: (layers[name] / last if last else 1.0) if name in layers else 0.0 for name in tensors}
